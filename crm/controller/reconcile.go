package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
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
	fail := func(err error) (reconcile.Result, error) {
		r.opts.Metrics.failures.WithLabelValues(string(apierrors.ReasonForError(err))).Inc()
		if apierrors.IsForbidden(err) {
			r.opts.Denied(err)
		}
		return reconcile.Result{}, err
	}
	p, err := r.look(ctx, object)
	if errors.Is(err, errNotSynced) {
		return reconcile.Result{RequeueAfter: syncPoll}, nil
	}
	if err != nil {
		return fail(err)
	}
	r.opts.Metrics.seen(request.NamespacedName, object.Status.Phase)
	if r.postpone(p) {
		return reconcile.Result{RequeueAfter: time.Millisecond, Priority: ptr.To(lastPriority)}, nil
	}
	verdict, err := r.pass(ctx, p)
	switch {
	case verdict != nil:
		r.opts.Metrics.seen(request.NamespacedName, verdict.Status.Phase)
	case err == nil:
		r.opts.Metrics.seen(request.NamespacedName, "")
	}
	if err != nil {
		return fail(err)
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
	delete(r.postponed, key)
	r.mu.Unlock()
	r.applier.forget(key)
	r.opts.Metrics.seen(key, "")
}

// lastPriority comes after everything else, also after what is in the first list.
const lastPriority = 2 * handler.LowPriority

// postpone reports whether an object can wait until those that cannot are done. A
// controller that takes over from one of another build may recognise no child and has
// to apply them all again, which takes half a minute for some hundred classes; what was
// changed while nobody led must not stand in that line. An object waits once only.
func (r *reconciler) postpone(p *pass) bool {
	if !p.resting() || r.applier.knows(p.object) {
		return false
	}
	key := client.ObjectKeyFromObject(p.object)
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.postponed[key] == p.object.UID
	r.postponed[key] = p.object.UID
	return !again
}

// resting reports whether the object was left available with this very content,
// and its children are there and run, as far as that shows without applying them.
func (p *pass) resting() bool {
	status := &p.object.Status
	if !p.object.DeletionTimestamp.IsZero() || p.rendered == nil || status.Applied == nil ||
		status.Phase != v1alpha1.PhaseAvailable || status.ObservedGeneration != p.object.Generation ||
		status.Applied.IntentHash != p.rendered.Hash || len(p.children) != len(p.rendered.Objects) {
		return false
	}
	for i := range p.rendered.Objects {
		c, exists := p.children[childID{gvk: p.rendered.Objects[i].GVK, name: p.rendered.Objects[i].Name}]
		if !exists || c.object.GetDeletionTimestamp() != nil {
			return false
		}
		if d, ok := c.object.(*appsv1.Deployment); ok {
			w := lifecycle.DeploymentWorkload(d, nil)
			if w.ObservedGeneration < w.Generation || w.Available < w.Desired {
				return false
			}
		}
	}
	return true
}

// pass acts until the state machine asks for nothing that was not tried, and
// reports its last verdict. The verdict is nil once the object was let go.
func (r *reconciler) pass(ctx context.Context, p *pass) (*lifecycle.Verdict, error) {
	tried := map[lifecycle.Action]bool{}
	for {
		verdict := lifecycle.Evaluate(r.observed(p), r.opts.Lifecycle, r.opts.Clock())
		action, found := nextAction(verdict.Actions, tried)
		if !found {
			return &verdict, r.report(ctx, p, &verdict)
		}
		tried[action] = true
		if p.large() && action == lifecycle.Apply {
			if err := r.report(ctx, p, &verdict); err != nil {
				return nil, err
			}
			told := p.object.DeepCopy()
			told.Status = verdict.Status
			p.object = told
		}
		if err := r.act(ctx, p, action); err != nil {
			return nil, err
		}
		if action == lifecycle.RemoveFinalizer {
			return nil, nil
		}
	}
}

// manyChildren is from how many children on a new class says that it is being applied
// before that is done: it takes seconds. For any other that would be a write too many.
const manyChildren = 64

// large reports that a class of very many children is applied for the first time.
func (p *pass) large() bool {
	return p.rendered != nil && len(p.rendered.Objects) >= manyChildren && p.object.Status.Phase == ""
}

func nextAction(actions []lifecycle.Action, tried map[lifecycle.Action]bool) (lifecycle.Action, bool) {
	for _, action := range actions {
		if !tried[action] {
			return action, true
		}
	}
	return "", false
}
