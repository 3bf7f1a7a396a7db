package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// Reconcile implements reconcile.Reconciler: one pass over one object.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	object, err := r.load(ctx, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	if object == nil {
		r.backoff.Forget(request)
		return reconcile.Result{}, nil
	}
	verdict, err := r.pass(ctx, object)
	switch {
	case verdict != nil:
		r.opts.Metrics.seen(request.NamespacedName, verdict.Status.Phase)
	case err == nil:
		r.opts.Metrics.seen(request.NamespacedName, "")
	}
	if errors.Is(err, errNotSynced) {
		return reconcile.Result{RequeueAfter: syncPoll}, nil
	}
	if err != nil {
		r.opts.Metrics.failures.WithLabelValues(string(apierrors.ReasonForError(err))).Inc()
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: r.requeue(request, verdict)}, nil
}

// requeue joins what the state machine asks for with the growing interval of
// something that failed and may pass.
func (r *reconciler) requeue(request reconcile.Request, verdict *lifecycle.Verdict) time.Duration {
	if verdict == nil || !verdict.Backoff {
		r.backoff.Forget(request)
		if verdict == nil {
			return 0
		}
		return verdict.RequeueAfter
	}
	after := r.backoff.When(request)
	if verdict.RequeueAfter > 0 {
		after = min(after, verdict.RequeueAfter)
	}
	return after
}

// load reads the object from the cache, unless the cache is behind our own last
// write: a verdict on an earlier status would be written a second time.
func (r *reconciler) load(ctx context.Context, key types.NamespacedName) (*v1alpha1.ClassRuntime, error) {
	object := &v1alpha1.ClassRuntime{}
	err := r.client.Get(ctx, key, object)
	if err == nil && version(object) < r.lastWrite(key) {
		object = &v1alpha1.ClassRuntime{}
		err = r.live.Get(ctx, key, object)
	}
	if apierrors.IsNotFound(err) {
		r.forget(key)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the class runtime: %w", err)
	}
	return object, nil
}

func (r *reconciler) lastWrite(key types.NamespacedName) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored[key]
}

func (r *reconciler) wrote(object client.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored[client.ObjectKeyFromObject(object)] = version(object)
}

func (r *reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	delete(r.stored, key)
	r.mu.Unlock()
	r.applier.forget(key)
	r.opts.Metrics.seen(key, "")
}

// pass acts until the state machine asks for nothing that was not tried, and
// reports its last verdict. The verdict is nil once the object was let go.
func (r *reconciler) pass(ctx context.Context, object *v1alpha1.ClassRuntime) (*lifecycle.Verdict, error) {
	p, err := r.look(ctx, object)
	if err != nil {
		return nil, err
	}
	tried := map[lifecycle.Action]bool{}
	for {
		verdict := lifecycle.Evaluate(r.observed(p), r.opts.Lifecycle, r.opts.Clock())
		action, found := nextAction(verdict.Actions, tried)
		if !found {
			return &verdict, r.report(ctx, p, &verdict)
		}
		tried[action] = true
		if err := r.act(ctx, p, action); err != nil {
			return nil, err
		}
		if action == lifecycle.RemoveFinalizer {
			return nil, nil
		}
	}
}

func nextAction(actions []lifecycle.Action, tried map[lifecycle.Action]bool) (lifecycle.Action, bool) {
	for _, action := range actions {
		if !tried[action] {
			return action, true
		}
	}
	return "", false
}
