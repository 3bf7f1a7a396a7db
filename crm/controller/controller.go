package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/presence"
	"oaas.io/control-plane/crm/template"
)

const (
	// controllerName is that of logs, metrics and events.
	controllerName = "oprc-crm"
	// Finalizer keeps a class runtime until its children are gone.
	Finalizer = "oaas.io/finalizer"

	minBackoff       = 100 * time.Millisecond
	maxBackoff       = 30 * time.Second
	reconcileTimeout = time.Minute
	cacheSyncTimeout = 2 * time.Minute
)

// Options configures the controller.
type Options struct {
	// Namespace that is reconciled. Required.
	Namespace string
	// Environment is what templates know of the cluster; its Router and Knative are
	// replaced by what is discovered.
	Environment template.Environment
	// Templates defaults to the built-in ones.
	Templates *template.Registry
	// DisableODGM keeps the object store off whatever a class asks for.
	DisableODGM bool
	// Concurrency is how many class runtimes are reconciled at a time.
	Concurrency int
	// ProgressDeadline overrides that of the lifecycle; 0 leaves it.
	ProgressDeadline time.Duration
	// Lifecycle are the other times of the state machine; zeros are its defaults.
	Lifecycle lifecycle.Options
	// Presence tells whether the cluster has Knative; nil is a cluster that never
	// does.
	Presence Presence
	// DisableKnative keeps classes off Knative where the cluster has it. What ran with
	// it before is still seen, and goes when its class does or moves.
	DisableKnative bool
	// Denied is told of every pass that ended because the API server forbade something;
	// nil tells nobody. It must not block.
	Denied func(err error)
	// Metrics are kept by the caller, who may run several controllers in turn.
	// Required.
	Metrics *Metrics
	// Logger is required.
	Logger hclog.Logger
	// Clock defaults to time.Now.
	Clock func() time.Time
}

// Validate fills in defaults and reports what is missing or out of bounds.
func (o *Options) Validate() error {
	var errs []error
	if o.Namespace == "" {
		errs = append(errs, errors.New("the namespace is required"))
	}
	if o.Metrics == nil {
		errs = append(errs, errors.New("metrics are required"))
	}
	if o.Logger == nil {
		errs = append(errs, errors.New("a logger is required"))
	}
	if o.Concurrency < 0 {
		errs = append(errs, errors.New("concurrency must not be negative"))
	}
	if o.Concurrency == 0 {
		o.Concurrency = 1
	}
	if o.ProgressDeadline != 0 {
		o.Lifecycle.ProgressDeadline = o.ProgressDeadline
	}
	if err := o.Lifecycle.Validate(); err != nil {
		errs = append(errs, err)
	}
	o.Lifecycle = o.Lifecycle.WithDefaults()
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Denied == nil {
		o.Denied = func(error) {}
	}
	if o.Templates == nil {
		registry, err := template.NewRegistry(template.Builtin()...)
		if err != nil {
			errs = append(errs, err)
		}
		o.Templates = registry
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("crm controller options: %w", err)
	}
	return nil
}

// Presence knows which optional APIs a cluster has.
type Presence interface {
	Has(api presence.API) bool
	Known(api presence.API) bool
	Changed() <-chan struct{}
}

// reconciler carries out one pass over one class runtime at a time per name.
type reconciler struct {
	opts     Options
	log      hclog.Logger
	client   client.Client // reads from the cache
	live     client.Reader // reads from the API server
	applier  *applier
	recorder events.EventRecorder
	knative  *knative
	backoff  workqueue.TypedRateLimiter[reconcile.Request]

	mu     sync.Mutex
	stored map[types.NamespacedName]uint64 // resourceVersion of our last write
	// postponed are the objects that had to wait for others once, by their uid.
	postponed map[types.NamespacedName]types.UID
}

// Setup adds the controller to a manager whose cache was made with CacheOptions.
func Setup(ctx context.Context, mgr manager.Manager, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	r := &reconciler{
		opts:     opts,
		log:      opts.Logger,
		client:   mgr.GetClient(),
		live:     mgr.GetAPIReader(),
		applier:  newApplier(mgr.GetClient(), mgr.GetAPIReader(), opts.Metrics, opts.Clock),
		recorder: mgr.GetEventRecorder(controllerName),
		backoff:  newBackoff(),
		stored:   map[types.NamespacedName]uint64{},

		postponed: map[types.NamespacedName]types.UID{},
	}
	opts.Metrics.restart()
	var err error
	if r.knative, err = newKnative(mgr, opts); err != nil {
		return err
	}
	if err := indexAll(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	warm := true // a standby keeps its caches and queue ready for the takeover
	err = builder.ControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha1.ClassRuntime{}, builder.WithPredicates(r.runtimeChanged())).
		Owns(&appsv1.Deployment{}, builder.WithPredicates(deploymentChanged())).
		Owns(&corev1.Service{}, builder.WithPredicates(serviceChanged())).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(specChanged())).
		Owns(&networkingv1.NetworkPolicy{}, builder.WithPredicates(specChanged())).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(autoscalerChanged())).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(byScaleTarget(mgr.GetClient())), builder.WithPredicates(scaleTargetChanged())).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byOwnerLabel(mgr.GetClient())), builder.WithPredicates(podChanged())).
		WatchesRawSource(r.knative.source(mgr.GetClient())).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(everyRuntime(mgr.GetClient())), builder.WithPredicates(isRouter())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: opts.Concurrency,
			RateLimiter:             newBackoff(),
			ReconciliationTimeout:   reconcileTimeout,
			CacheSyncTimeout:        cacheSyncTimeout,
			EnableWarmup:            &warm,
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the class runtime controller: %w", err)
	}
	return nil
}

// newBackoff grows per object and is capped low, because people wait for the
// object to heal.
func newBackoff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff)
}
