package controller

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// StatusManager owns the fields of the status that this controller writes.
const StatusManager = "oaas-crm-status"

// eventAction is the action of every event: what was being done to the object.
const eventAction = "Reconcile"

// maxEventNote is the longest text that the events API takes.
const maxEventNote = 1024

// othersFields are parts of the status with writers of their own.
var othersFields = []string{"nfr_recommendations", "last_applied_recommendations", "last_applied_at"}

// report writes the status when it says something new, and tells the transitions
// once they are stored.
func (r *reconciler) report(ctx context.Context, p *pass, verdict *lifecycle.Verdict) error {
	if !verdict.Changed {
		return nil
	}
	if err := r.writeStatus(ctx, p.object, &verdict.Status); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // deleted meanwhile
		}
		return fmt.Errorf("write the status: %w", err)
	}
	r.opts.Metrics.statuses.Inc()
	r.observePhase(p.object, &verdict.Status)
	for _, e := range verdict.Events {
		kind := corev1.EventTypeNormal
		if e.Warning {
			kind = corev1.EventTypeWarning
		}
		r.recorder.Eventf(p.object, nil, kind, string(e.Reason), eventAction, "%s", e.Message[:min(len(e.Message), maxEventNote)])
	}
	return nil
}

// writeStatus applies the status as one field manager.
func (r *reconciler) writeStatus(ctx context.Context, object *v1alpha1.ClassRuntime, status *v1alpha1.ClassRuntimeStatus) error {
	own := status.DeepCopy()
	own.Conditions = nil
	for _, c := range status.Conditions {
		if c.Type != v1alpha1.ConditionNfrObserved {
			own.Conditions = append(own.Conditions, c)
		}
	}
	text, err := json.Marshal(own)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	for _, name := range othersFields {
		delete(fields, name)
	}
	intent := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	intent.SetGroupVersionKind(v1alpha1.GroupVersionKind)
	intent.SetNamespace(object.Namespace)
	intent.SetName(object.Name)
	// The uid makes sure that a new object of the same name is not given the
	// status of the old one.
	intent.SetUID(object.UID)
	err = r.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(StatusManager), client.ForceOwnership)
	if err != nil {
		return err
	}
	r.wrote(intent)
	return nil
}

// observePhase counts and logs a change of phase.
func (r *reconciler) observePhase(object *v1alpha1.ClassRuntime, next *v1alpha1.ClassRuntimeStatus) {
	before := object.Status.Phase
	if next.Phase == before {
		return
	}
	r.opts.Metrics.transitions.WithLabelValues(string(next.Phase), string(degradedReason(next))).Inc()
	r.log.Info("phase changed", "class_runtime", object.Name, "from", string(before), "to", string(next.Phase), "message", next.Message)
	if next.Phase == v1alpha1.PhaseAvailable && object.Generation == 1 {
		r.opts.Metrics.available.Observe(r.opts.Clock().Sub(object.CreationTimestamp.Time).Seconds())
	}
}

// degradedReason is the reason of a degraded status, or "".
func degradedReason(status *v1alpha1.ClassRuntimeStatus) v1alpha1.Reason {
	for _, c := range status.Conditions {
		if c.Type == v1alpha1.ConditionDegraded && c.Status == "True" {
			return c.Reason
		}
	}
	return ""
}
