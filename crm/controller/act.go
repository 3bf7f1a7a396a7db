package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"oaas.io/control-plane/crm/lifecycle"
)

// Causes of deleting a child.
const (
	causePruned  = "pruned"
	causeDeleted = "owner_deleted"
)

// act carries out one action and brings the pass up to date with it. An error
// ends the pass; the failure to apply a child does not, it becomes a fault that
// the next verdict reports.
func (r *reconciler) act(ctx context.Context, p *pass, action lifecycle.Action) error {
	switch action {
	case lifecycle.EnsureFinalizer:
		return r.setFinalizer(ctx, p, true)
	case lifecycle.Apply:
		return r.applyAll(ctx, p)
	case lifecycle.Prune:
		return r.prune(ctx, p)
	case lifecycle.DeleteChildren:
		return r.deleteChildren(ctx, p)
	case lifecycle.RemoveFinalizer:
		return r.setFinalizer(ctx, p, false)
	}
	return fmt.Errorf("unknown action %q", action)
}

// setFinalizer adds or removes our finalizer and nothing else. The lock on the
// resourceVersion keeps the finalizers that others add or remove meanwhile.
func (r *reconciler) setFinalizer(ctx context.Context, p *pass, present bool) error {
	changed := p.object.DeepCopy()
	if present {
		controllerutil.AddFinalizer(changed, Finalizer)
	} else {
		controllerutil.RemoveFinalizer(changed, Finalizer)
	}
	patch := client.MergeFromWithOptions(p.object, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		if !present && apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("write the finalizer: %w", err)
	}
	if present {
		p.object = changed
		r.wrote(changed)
	}
	return nil
}

// appliesAtOnce bounds how many children of one class runtime are applied at a time.
// They do not depend on each other, and one of hundreds of functions has as many.
const appliesAtOnce = 8

// applyAll applies every child that is not as rendered. One that fails does not
// keep the others back, unless the failure says nothing about the child.
func (r *reconciler) applyAll(ctx context.Context, p *pass) error {
	if p.rendered == nil {
		return nil
	}
	if err := r.handBack(ctx, p); err != nil {
		return err
	}
	if p.rendered == nil {
		return nil
	}
	answers := make([]client.Object, len(p.rendered.Objects))
	var group errgroup.Group // a sibling that is on its way is not cut short
	var away atomic.Bool
	group.SetLimit(appliesAtOnce)
	for i := range p.rendered.Objects {
		intent := &p.rendered.Objects[i]
		id := childID{gvk: intent.GVK, name: intent.Name}
		existing := p.children[id].object
		group.Go(func() error {
			if away.Load() {
				return nil
			}
			answer, err := r.applier.apply(ctx, p.object, intent, existing)
			if err != nil && passing(ctx, err) {
				away.Store(true)
				return err
			}
			if err != nil {
				r.log.Debug("child not applied", "class_runtime", p.object.Name, "child", id.String(), "error", err)
			}
			answers[i] = answer
			return nil
		})
	}
	err := group.Wait()
	for i, answer := range answers {
		if answer != nil {
			id := childID{gvk: p.rendered.Objects[i].GVK, name: p.rendered.Objects[i].Name}
			p.children[id] = child{id: id, object: answer}
		}
	}
	return err
}

// passing reports whether a failure says nothing about the child: the API server
// is away or the pass is out of time. Nothing could be reported then anyway.
func passing(ctx context.Context, err error) bool {
	var conflict *ConflictError
	var taken *TakenError
	if errors.As(err, &conflict) || errors.As(err, &taken) || tooLarge(err) || meta.IsNoMatchError(err) {
		return false
	}
	return ctx.Err() != nil || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown ||
		apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsConflict(err)
}

// prune deletes the children that are no longer rendered. Only those that have
// us as their controller go: the label alone is easily copied.
func (r *reconciler) prune(ctx context.Context, p *pass) error {
	if p.rendered == nil {
		return nil
	}
	wanted := map[childID]bool{}
	for i := range p.rendered.Objects {
		wanted[childID{gvk: p.rendered.Objects[i].GVK, name: p.rendered.Objects[i].Name}] = true
	}
	if refused, err := r.refusedKnative(ctx, p); refused || err != nil {
		return err // what runs stays; the apply that follows tells why
	}
	for id, c := range p.children {
		if wanted[id] || c.object.GetDeletionTimestamp() != nil || !controlledBy(c.object, p.object) {
			continue
		}
		if err := r.remove(ctx, c, metav1.DeletePropagationBackground, causePruned); err != nil {
			return err
		}
		delete(p.children, id)
	}
	return nil
}

// deleteChildren deletes what is left of a class runtime that is being deleted,
// in the foreground: a Deployment is gone only when its pods are. Then it looks
// again, since much is gone at once.
func (r *reconciler) deleteChildren(ctx context.Context, p *pass) error {
	for _, c := range p.children {
		if c.object.GetDeletionTimestamp() != nil {
			continue
		}
		if err := r.remove(ctx, c, metav1.DeletePropagationForeground, causeDeleted); err != nil {
			return err
		}
	}
	return r.lookAtChildren(ctx, p)
}

// refusedKnative asks, before Services are deleted for Knative to have their names, whether
// the API server takes the Knative Services at all.
func (r *reconciler) refusedKnative(ctx context.Context, p *pass) (bool, error) {
	for i := range p.rendered.Objects {
		intent := &p.rendered.Objects[i]
		if _, there := p.children[childID{gvk: intent.GVK, name: intent.Name}]; intent.GVK != knativeKind || there {
			continue
		}
		object, err := asNew(intent)
		if err != nil {
			return false, fmt.Errorf("try %s: %w", intent.Name, err)
		}
		err = r.applier.send(ctx, object, client.DryRunAll)
		switch {
		case err == nil, apierrors.IsConflict(err):
		case passing(ctx, err):
			return false, fmt.Errorf("try Knative Service %s: %w", intent.Name, err)
		default:
			return true, nil
		}
	}
	return false, nil
}

func (r *reconciler) remove(ctx context.Context, c child, how metav1.DeletionPropagation, cause string) error {
	uid := c.object.GetUID()
	err := r.client.Delete(ctx, c.object, client.PropagationPolicy(how), client.Preconditions{UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !meta.IsNoMatchError(err) {
		return fmt.Errorf("delete %s: %w", c.id, err)
	}
	r.opts.Metrics.deletes.WithLabelValues(kindWord(c.id.gvk), cause).Inc()
	return nil
}
