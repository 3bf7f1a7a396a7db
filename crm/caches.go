package crm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/controller"
)

// endingWith makes patient caches for which nobody waits any more once ctx has ended. A
// controller manager (v0.25.2) that is stopped before its caches are full spins
// for ever on a cache that never tells it.
func endingWith(ctx context.Context) cache.NewCacheFunc {
	return func(config *rest.Config, opts cache.Options) (cache.Cache, error) {
		var err error
		if opts.HTTPClient, err = controller.PatientHTTPClient(config); err != nil {
			return nil, err
		}
		inner, err := cache.New(config, opts)
		if err != nil {
			return nil, err
		}
		return endingCache{Cache: inner, life: ctx}, nil
	}
}

type endingCache struct {
	cache.Cache
	life context.Context
}

// WaitForCacheSync implements cache.Informers.
func (c endingCache) WaitForCacheSync(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)() //nolint:contextcheck // two contexts, the first to end counts
	return c.Cache.WaitForCacheSync(ctx) || c.life.Err() != nil
}

// awaitCache waits until class runtimes can be read from the cache.
func (m *manager) awaitCache(ctx context.Context, cached client.Reader) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := cached.List(ctx, &v1alpha1.ClassRuntimeList{}, client.InNamespace(m.opts.Namespace), client.Limit(1))
		var early *cache.ErrCacheNotStarted
		if !errors.As(err, &early) {
			if err != nil {
				return fmt.Errorf("wait for the cache of class runtimes: %w", err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
