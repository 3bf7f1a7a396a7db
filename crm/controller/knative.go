package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/presence"
	"oaas.io/control-plane/crm/template"
)

// errNotSynced asks for another pass soon: what is needed to choose a template is not
// known yet.
var errNotSynced = errors.New("the state of Knative is not known yet")

const (
	// knativePatience is how long the first list of Knative Services may take before
	// Knative counts as one that cannot be used, for want of rights above all.
	knativePatience = 15 * time.Second
	syncPoll        = 100 * time.Millisecond
	// routePatience is how long a route may be on its way while the calls are taken to
	// reach where they did before.
	routePatience = time.Minute
)

// knative follows Knative Services while the cluster has their API. The manager's own
// cache cannot: a watch of a kind that is not there keeps it from ever being ready, and
// one that went away fails for ever. So this cache lives and dies with the API.
type knative struct {
	opts     Options
	presence Presence
	config   *rest.Config
	mapper   meta.RESTMapper
	scheme   *runtime.Scheme
	// events carries a Knative Service that changed, or a ClassRuntime that stands for
	// all of them.
	events chan event.GenericEvent

	mu     sync.Mutex
	reader client.Reader // nil while nothing is synced
	since  time.Time     // when what is not known yet was first waited for
}

func newKnative(mgr manager.Manager, opts Options) (*knative, error) {
	k := &knative{
		opts: opts, presence: opts.Presence, config: mgr.GetConfig(), mapper: mgr.GetRESTMapper(),
		scheme: mgr.GetScheme(), events: make(chan event.GenericEvent), since: opts.Clock(),
	}
	if k.presence == nil {
		return k, nil
	}
	if err := mgr.Add(onEveryReplica{k.run}); err != nil {
		return nil, fmt.Errorf("add the follower of Knative: %w", err)
	}
	return k, nil
}

// onEveryReplica is run by leaders and standbys alike.
type onEveryReplica struct {
	run func(context.Context) error
}

// Start implements manager.Runnable.
func (o onEveryReplica) Start(ctx context.Context) error { return o.run(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (onEveryReplica) NeedLeaderElection() bool { return false }

// usable reports whether classes can run with Knative now.
func (k *knative) usable() bool { return k.cached() != nil && !k.opts.DisableKnative }

// pending reports whether that will be known soon. It has a limit: an API that cannot be
// asked for, or whose objects may not be listed, is one that is not there.
func (k *knative) pending() bool {
	if k == nil || k.presence == nil || k.cached() != nil {
		return false
	}
	if k.presence.Known(presence.KnativeServices) && !k.presence.Has(presence.KnativeServices) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opts.Clock().Sub(k.since) < knativePatience
}

// cached reads Knative Services from the cache, nil if there is none.
func (k *knative) cached() client.Reader {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reader
}

func (k *knative) set(reader client.Reader, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reader, k.since = reader, since
}

// source has class runtimes reconciled that a change is about.
func (k *knative) source(reader client.Reader) source.Source {
	owner, all := byOwnerLabel(reader), everyRuntime(reader)
	return source.Channel(k.events, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		if _, is := object.(*servingv1.Service); is {
			return owner(ctx, object)
		}
		return all(ctx, object)
	}))
}

func (k *knative) tell(ctx context.Context, object client.Object) {
	select {
	case k.events <- event.GenericEvent{Object: object}:
	case <-ctx.Done():
	}
}

// run keeps a cache while the API is there. It ends with ctx, and so has everything that
// it started.
func (k *knative) run(ctx context.Context) error {
	var stop func()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	for {
		changed := k.presence.Changed()
		switch has := k.presence.Has(presence.KnativeServices); {
		case has && stop == nil:
			var err error
			if stop, err = k.follow(ctx); err != nil {
				return err
			}
		case !has && stop != nil:
			stop()
			stop = nil
			k.opts.Logger.Info("Knative went away")
			k.tell(ctx, &v1alpha1.ClassRuntime{})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// follow starts a cache and returns what stops it and waits for its end.
func (k *knative) follow(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	followed, err := k.newCache()
	if err != nil {
		cancel()
		return nil, err
	}
	k.set(nil, k.opts.Clock())
	var running sync.WaitGroup
	running.Go(func() {
		if err := followed.Start(ctx); err != nil && ctx.Err() == nil {
			k.opts.Logger.Warn("the cache of Knative Services ended", "error", err)
		}
	})
	running.Go(func() {
		if err := k.sync(ctx, followed); err != nil && ctx.Err() == nil {
			k.opts.Logger.Warn("Knative Services cannot be followed", "error", err)
		}
	})
	return func() {
		k.set(nil, k.opts.Clock()) // nobody reads from a cache that ends
		cancel()
		running.Wait()
	}, nil
}

func (k *knative) newCache() (cache.Cache, error) {
	owned, err := labels.NewRequirement(template.LabelOwner, selection.Exists, nil)
	if err != nil {
		return nil, fmt.Errorf("owner label selector: %w", err)
	}
	patient, err := PatientHTTPClient(k.config)
	if err != nil {
		return nil, err
	}
	followed, err := cache.New(k.config, cache.Options{
		HTTPClient: patient, Scheme: k.scheme, Mapper: k.mapper,
		DefaultNamespaces: map[string]cache.Config{k.opts.Namespace: {}},
		DefaultTransform:  cache.TransformStripManagedFields(),
		ByObject:          map[client.Object]cache.ByObject{&servingv1.Service{}: {Label: labels.NewSelector().Add(*owned)}},
	})
	if err != nil {
		return nil, fmt.Errorf("cache of Knative Services: %w", err)
	}
	return followed, nil
}

// sync waits for the first list and lets classes use it.
func (k *knative) sync(ctx context.Context, followed cache.Cache) error {
	informer, err := followed.GetInformer(ctx, &servingv1.Service{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	tell := func(object any) {
		if gone, is := object.(toolscache.DeletedFinalStateUnknown); is {
			object = gone.Obj
		}
		if s, is := object.(*servingv1.Service); is {
			k.tell(ctx, s)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: tell, DeleteFunc: tell,
		UpdateFunc: func(before, after any) {
			x, okX := before.(*servingv1.Service)
			y, okY := after.(*servingv1.Service)
			if !okX || !okY || x.ResourceVersion != y.ResourceVersion {
				tell(after)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	k.mu.Lock()
	k.reader = followed
	k.mu.Unlock()
	k.opts.Logger.Info("Knative is there")
	k.tell(ctx, &v1alpha1.ClassRuntime{})
	return nil
}

// cached is the reader of a kind of children while their owner lives.
func (r *reconciler) cached(kind childKind) childReader {
	if kind.optional {
		return childReader{Reader: r.knative.cached()}
	}
	return childReader{Reader: r.client, indexed: true}
}

// onKnative reports whether the functions run as Knative Services.
func (p *pass) onKnative() bool {
	if p.rendered != nil {
		return p.rendered.Template == template.KnativeName
	}
	return p.object.Status.Template == template.KnativeName
}

// knativeUnit is a Knative Service as it stands, and the URL that it has.
func (p *pass) knativeUnit(name string, now time.Time) (lifecycle.Unit, string) {
	var service *servingv1.Service
	if c, ok := p.children[childID{gvk: knativeKind, name: name}]; ok {
		service, _ = c.object.(*servingv1.Service)
	}
	served := false
	for i := range p.object.Status.Functions {
		f := &p.object.Status.Functions[i]
		served = served || f.Service == name && f.Template == template.KnativeName && f.Ready != nil && *f.Ready
	}
	if service != nil {
		routes := service.Status.GetCondition(servingv1.ServiceConditionRoutesReady)
		served = served && routes != nil && now.Sub(routes.LastTransitionTime.Inner.Time) < routePatience
	}
	var pods []*corev1.Pod
	for i := range p.pods {
		if p.pods[i].Labels[serving.ServiceLabelKey] == name {
			pods = append(pods, &p.pods[i])
		}
	}
	unit := lifecycle.KnativeUnit(service, pods, served)
	unit.Workload.Name = name
	return unit, lifecycle.KnativeURL(service)
}
