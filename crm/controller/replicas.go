package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/template"
)

const (
	// ScaleManager holds the replicas of a Deployment while they pass from the
	// templates to an autoscaler and back. Without it they would fall to 1 as soon as
	// the templates give them up, because nobody would own the field.
	ScaleManager = "oaas-crm-scale"
	// AnnotationKept is on a Deployment that keeps the replicas of an autoscaler that
	// is gone. Its value is the lower bound that was in force then.
	AnnotationKept = "oaas.io/replicas-kept-since"

	// autoscalerManager is the field manager of Kubernetes' own autoscaler where it is a
	// program of its own.
	autoscalerManager = "kube-controller-manager"
)

// autoscalerManagers are the names that the autoscaler goes by: that of its program, which
// in K3s and MicroK8s is one for the whole control plane.
var autoscalerManagers = []string{autoscalerManager, "k3s", "kubelite"}

// scaleTarget is the value of indexScaleTarget.
func scaleTarget(kind, name string) string { return kind + "/" + name }

// scaleTargetOf is the index function of autoscalers.
func scaleTargetOf(object client.Object) []string {
	a, ok := object.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	return []string{scaleTarget(a.Spec.ScaleTargetRef.Kind, a.Spec.ScaleTargetRef.Name)}
}

// lookAtScaling finds what decides the replicas of the functions' Deployments besides
// the spec.
func (r *reconciler) lookAtScaling(ctx context.Context, p *pass) error {
	p.scaling = map[string]template.Scaling{}
	for _, e := range template.Endpoints(p.object.Name, p.object.Namespace, p.spec.Functions) {
		if e.WASM {
			continue
		}
		found := template.Scaling{}
		list := &autoscalingv2.HorizontalPodAutoscalerList{}
		err := r.client.List(ctx, list, client.InNamespace(p.object.Namespace), client.UnsafeDisableDeepCopy,
			client.MatchingFields{indexScaleTarget: scaleTarget(deploymentKind.Kind, e.Workload)})
		if err != nil {
			return fmt.Errorf("list autoscalers: %w", err)
		}
		for i := range list.Items {
			if a := &list.Items[i]; a.DeletionTimestamp == nil && !controlledBy(a, p.object) {
				found.Foreign = a.Name
			}
		}
		if d := p.deployment(e.Workload); d != nil {
			found.KeptSince = keptSince(d)
		}
		if found != (template.Scaling{}) {
			p.scaling[e.Workload] = found
		}
	}
	return nil
}

func keptSince(d *appsv1.Deployment) *int32 {
	since, err := strconv.ParseInt(d.Annotations[AnnotationKept], 10, 32)
	if err != nil {
		return nil
	}
	out := int32(since)
	return &out
}

// replicasOf is how many pods the Deployment is to have. The API server fills in 1.
func replicasOf(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// replicas says who decides the replicas of a rendered Deployment, nil if none of that
// name is rendered.
func (p *pass) replicas(workload string) *template.Replicas {
	if p.rendered == nil {
		return nil
	}
	for i := range p.rendered.Objects {
		if o := &p.rendered.Objects[i]; o.GVK == deploymentKind && o.Name == workload {
			return o.Replicas
		}
	}
	return nil
}

// scaled tells the state machine what an autoscaler means for a workload.
func (r *reconciler) scaled(p *pass, w *lifecycle.Workload) {
	replicas := p.replicas(w.Name)
	if !replicas.Elastic() {
		return
	}
	w.Elastic, w.Least = true, replicas.Min
	id := childID{gvk: deploymentKind, name: w.Name}
	if m, ok := r.applier.recall(p.object, id); ok && m.generation > 0 {
		// A change of the replicas raises the generation too. Nothing has to be rolled
		// out for it, so what counts is the generation that we wrote.
		w.Generation = min(w.Generation, m.generation)
	}
	c, ok := p.children[childID{gvk: autoscalerKind, name: w.Name}]
	if !ok || replicas.By != template.ByAutoscaler {
		return
	}
	if a, ok := c.object.(*autoscalingv2.HorizontalPodAutoscaler); ok {
		if why := inactive(a); why != "" {
			w.Unscaled = "the autoscaler cannot tell how busy the function is (" + why + "); the replicas stay as they are"
		}
	}
}

// inactive is the reason for which an autoscaler does not scale, empty if it does.
func inactive(a *autoscalingv2.HorizontalPodAutoscaler) string {
	for _, c := range a.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse {
			return c.Reason
		}
	}
	return ""
}

// handBack removes autoscalers of ours that are not rendered any more, before anything else
// is done: two of them on one Deployment scale nothing. Where the spec decides again, the
// Deployment keeps the replicas that it has, within the bounds, until the spec asks for
// another number: switching an autoscaler off under load must not be a fall.
func (r *reconciler) handBack(ctx context.Context, p *pass) error {
	changed := false
	for i := range p.rendered.Objects {
		o := &p.rendered.Objects[i]
		id := childID{gvk: autoscalerKind, name: o.Name}
		autoscaler, ours := p.children[id]
		if o.Replicas == nil || o.Replicas.By == template.ByAutoscaler || !ours || autoscaler.object.GetDeletionTimestamp() != nil ||
			!controlledBy(autoscaler.object, p.object) {
			continue
		}
		if o.Replicas.By == template.BySpec || o.Replicas.By == template.ByPast {
			if err := r.applier.keep(ctx, p.object, o); err != nil {
				return err
			}
		}
		if err := r.remove(ctx, autoscaler, metav1.DeletePropagationBackground, causePruned); err != nil {
			return err
		}
		delete(p.children, id)
		changed = true
	}
	if !changed {
		return nil
	}
	if err := r.lookAtChildren(ctx, p); err != nil {
		return err
	}
	if err := r.lookAtScaling(ctx, p); err != nil {
		return err
	}
	r.render(p)
	return nil
}

// keep has ScaleManager hold the replicas that an autoscaler decided, and notes why.
func (a *applier) keep(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object) error {
	live := &appsv1.Deployment{}
	err := a.live.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: intent.Name}, live)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Deployment %s: %w", intent.Name, err)
	}
	if foreign(live, owner) != "" {
		return nil // the name is somebody else's now
	}
	answer, err := a.scale(ctx, live, intent.Replicas.Clamp(replicasOf(live)), &intent.Replicas.Min)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := childID{gvk: deploymentKind, name: intent.Name}
	// What the cache shows before it has seen this write is refreshed.
	a.of(owner).marks[id] = mark{version: version(answer)}
	return nil
}

// release takes the replicas of an existing Deployment from the templates before they
// give them up: a field that its only owner leaves out falls back to its default.
func (a *applier) release(ctx context.Context, owner *v1alpha1.ClassRuntime, intent *template.Object) error {
	if intent.Replicas == nil || intent.Replicas.By == template.BySpec || a.dry {
		return nil
	}
	live := &appsv1.Deployment{}
	err := a.live.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: intent.Name}, live)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Deployment %s: %w", intent.Name, err)
	}
	if !ownsReplicas(live.ManagedFields) {
		return nil
	}
	_, err = a.scale(ctx, live, replicasOf(live), nil)
	return err
}

// ownsReplicas reports whether the templates own the replicas.
func ownsReplicas(entries []metav1.ManagedFieldsEntry) bool {
	for _, entry := range entries {
		if entry.Manager != FieldManager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec.Replicas != nil {
			return true
		}
	}
	return false
}

// within brings the replicas of a Deployment that was applied into their bounds, and
// drops the note of an earlier autoscaler once the spec decides again.
func (a *applier) within(ctx context.Context, intent *template.Object, answer client.Object) (client.Object, error) {
	d, ok := answer.(*appsv1.Deployment)
	if !ok || intent.Replicas == nil {
		return answer, nil
	}
	switch intent.Replicas.By {
	case template.ByOthers:
		return answer, nil
	case template.BySpec:
		if _, noted := d.Annotations[AnnotationKept]; !noted {
			return answer, nil
		}
		return a.applyScale(ctx, appsv1ac.Deployment(d.Name, d.Namespace).WithUID(d.UID))
	case template.ByAutoscaler, template.ByEnforcer, template.ByPast:
	}
	n := intent.Replicas.Clamp(replicasOf(d))
	if n == replicasOf(d) {
		return answer, nil
	}
	if a.dry { // nothing that was applied is there
		d.Spec.Replicas = &n
		return d, nil
	}
	var kept *int32
	if intent.Replicas.By == template.ByPast {
		kept = &intent.Replicas.Min
	}
	return a.scale(ctx, d, n, kept)
}

// scale sets the replicas of a Deployment as ScaleManager. It fails when the Deployment
// moved since it was read.
func (a *applier) scale(ctx context.Context, read *appsv1.Deployment, replicas int32, kept *int32) (client.Object, error) {
	d := appsv1ac.Deployment(read.Name, read.Namespace).
		WithResourceVersion(read.ResourceVersion).
		WithSpec(appsv1ac.DeploymentSpec().WithReplicas(replicas))
	if kept != nil {
		d.WithAnnotations(map[string]string{AnnotationKept: strconv.Itoa(int(*kept))})
	}
	return a.applyScale(ctx, d)
}

func (a *applier) applyScale(ctx context.Context, d *appsv1ac.DeploymentApplyConfiguration) (client.Object, error) {
	if err := a.client.Apply(ctx, d, client.FieldOwner(ScaleManager), client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("scale Deployment %s: %w", *d.Name, err)
	}
	return answerOf(deploymentKind, d)
}
