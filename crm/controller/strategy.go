package controller

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/template"
)

// recreate takes the parameters of rolling updates away with the strategy. A null in an
// apply takes nothing away, so it has to be a patch. It is about this one object: what
// somebody else made under its name meanwhile is not touched.
func recreate(d *appsv1.Deployment) client.Patch {
	return client.RawPatch(types.MergePatchType, fmt.Appendf(nil,
		`{"metadata":{"uid":%q},"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}`, d.UID))
}

// endRolling prepares a Deployment whose old pod is to be gone before the new one comes
// and that still rolls, as the object stores of oaas-rs do. The API server gave it
// parameters for that which nobody owns: they would stay, and it refuses them beside the
// other strategy. The answer is what to apply.
func (a *applier) endRolling(ctx context.Context, intent *template.Object, existing client.Object) (*template.Object, error) {
	rolling, ok := existing.(*appsv1.Deployment)
	if !ok || rolling.Spec.Strategy.RollingUpdate == nil {
		return intent, nil
	}
	wanted, ok := intent.Configuration.(*appsv1ac.DeploymentApplyConfiguration)
	if !ok || wanted.Spec == nil || wanted.Spec.Strategy == nil || *wanted.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return intent, nil
	}
	if a.dry {
		// What the patch does is thrown away before the apply, which then would be refused
		// for it. The rest of the intent is tried.
		tried, configuration, spec := *intent, *wanted, *wanted.Spec
		spec.Strategy = nil
		configuration.Spec, tried.Configuration = &spec, &configuration
		return &tried, nil
	}
	if err := a.client.Patch(ctx, rolling.DeepCopy(), recreate(rolling), client.FieldOwner(FieldManager)); err != nil {
		return nil, &ApplyError{
			Child: childID{gvk: intent.GVK, name: intent.Name}, Err: fmt.Errorf("end its rolling updates: %w", err),
		}
	}
	return intent, nil
}
