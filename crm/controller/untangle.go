package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

// repairManager writes what server-side apply cannot, and owns nothing afterwards.
const repairManager = "oaas-crm-repair"

// mend applies a document, if need be after what keeps it from being applied was set back.
func (a *applier) mend(
	ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object, sent *unstructured.Unstructured, opts ...client.ApplyOption,
) error {
	err := a.send(ctx, sent, opts...)
	if !apierrors.IsInvalid(err) {
		return err
	}
	switch again, failed := a.untangle(ctx, owner, intent); {
	case failed != nil:
		return errors.Join(err, failed)
	case !again:
		return err
	}
	return a.send(ctx, sent, opts...)
}

// edit is one operation of a JSON patch.
type edit struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// untangle sets back lists of ports that somebody edited by hand, and reports whether there
// were any. The number of a port is its key in the list: an edit of it is a port of somebody
// else, beside which ours is one more with the same name, and the API server refuses that
// for ever. Only children of the class runtime are touched.
func (a *applier) untangle(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object) (bool, error) {
	live := newObject(intent.GVK)
	if live == nil || a.dry {
		return false, nil
	}
	if err := a.live.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: intent.Name}, live); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if !controlledBy(live, owner) {
		return false, nil
	}
	edits, err := portEdits(intent, live)
	if err != nil || len(edits) == 0 {
		return false, err
	}
	if err := a.edit(ctx, live, edits); err != nil {
		return false, fmt.Errorf("set the ports back: %w", err)
	}
	// The values are ours to apply now. As long as another manager owned them as well, a port
	// that is given up later would stay.
	fields := slices.DeleteFunc(live.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == repairManager })
	if err := a.edit(ctx, live, []edit{{Op: "replace", Path: "/metadata/managedFields", Value: fields}}); err != nil && !apierrors.IsConflict(err) {
		return false, fmt.Errorf("give the ports up: %w", err)
	}
	return true, nil
}

// edit changes an object if it is still as it was read, and brings it up to date.
func (a *applier) edit(ctx context.Context, live client.Object, edits []edit) error {
	guarded := append([]edit{{Op: "test", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()}}, edits...)
	patch, err := json.Marshal(guarded)
	if err != nil {
		return err
	}
	return a.client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(repairManager))
}

// portEdits are the edits after which the ports of an object are those of an intent.
func portEdits(intent *template.Object, live client.Object) ([]edit, error) {
	text, err := json.Marshal(intent.Configuration)
	if err != nil {
		return nil, err
	}
	wanted := newObject(intent.GVK)
	if err := json.Unmarshal(text, wanted); err != nil {
		return nil, err
	}
	switch have := live.(type) {
	case *corev1.Service:
		want, ok := wanted.(*corev1.Service)
		if !ok || reflect.DeepEqual(servicePorts(want.Spec.Ports), servicePorts(have.Spec.Ports)) {
			return nil, nil
		}
		return []edit{{Op: "replace", Path: "/spec/ports", Value: want.Spec.Ports}}, nil
	case *appsv1.Deployment:
		want, ok := wanted.(*appsv1.Deployment)
		if !ok {
			return nil, nil
		}
		return containerPortEdits(want.Spec.Template.Spec.Containers, have.Spec.Template.Spec.Containers), nil
	}
	return nil, nil
}

// servicePorts are the keys of a Service's ports in their order.
func servicePorts(ports []corev1.ServicePort) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = fmt.Sprintf("%s %d", orTCP(p.Protocol), p.Port)
	}
	return out
}

func containerPorts(ports []corev1.ContainerPort) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = fmt.Sprintf("%s %d", orTCP(p.Protocol), p.ContainerPort)
	}
	return out
}

func orTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func containerPortEdits(want, have []corev1.Container) []edit {
	var out []edit
	for i := range have {
		at := slices.IndexFunc(want, func(c corev1.Container) bool { return c.Name == have[i].Name })
		if at < 0 || len(have[i].Ports) == 0 || reflect.DeepEqual(containerPorts(want[at].Ports), containerPorts(have[i].Ports)) {
			continue
		}
		out = append(out, edit{Op: "replace", Path: fmt.Sprintf("/spec/template/spec/containers/%d/ports", i), Value: want[at].Ports})
	}
	return out
}
