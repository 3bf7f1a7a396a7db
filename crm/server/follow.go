package server

import (
	"context"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Informers is the part of a controller-runtime cache that tells of changes.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
}

// follow publishes what the informer sees of class runtimes until stop is
// called.
func follow(ctx context.Context, informers Informers, h *hub) (stop func(), err error) {
	informer, err := informers.GetInformer(ctx, &v1alpha1.ClassRuntime{})
	if err != nil {
		return nil, fmt.Errorf("watch class runtimes: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { h.notice(object, false) },
		UpdateFunc: func(before, after any) {
			if sameVersion(before, after) {
				return // a resync, not a change
			}
			h.notice(after, false)
		},
		DeleteFunc: func(object any) {
			if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = last.Obj
			}
			h.notice(object, true)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch class runtimes: %w", err)
	}
	return func() {
		// Fails only when the informer has stopped, which is what is wanted.
		_ = informer.RemoveEventHandler(registration)
	}, nil
}

func (h *hub) notice(object any, removed bool) {
	if runtime, ok := object.(*v1alpha1.ClassRuntime); ok {
		h.publish(change{object: runtime, removed: removed})
	}
}

func sameVersion(before, after any) bool {
	a, ok := before.(*v1alpha1.ClassRuntime)
	if !ok {
		return false
	}
	b, ok := after.(*v1alpha1.ClassRuntime)
	return ok && a.ResourceVersion == b.ResourceVersion && a.UID == b.UID
}
