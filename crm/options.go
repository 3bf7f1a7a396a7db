package crm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"oaas.io/control-plane/crm/template"
)

// DefaultConcurrency is how many class runtimes are reconciled at a time.
const DefaultConcurrency = 32

// Tunnel is a listener whose connections come through those that it keeps to the control
// plane while Run runs. Run asks identify for the cluster's UID until it is known.
type Tunnel interface {
	net.Listener
	Run(ctx context.Context, identify func(context.Context) (uid string, err error))
}

// Options configures a class runtime manager.
type Options struct {
	// RESTConfig leads to the Kubernetes API server. Required.
	RESTConfig *rest.Config
	// Listener is the port for gRPC and health checks. Run closes it. Required.
	Listener net.Listener
	// TLS makes the port speak TLS only, health checks included; nil makes it speak
	// without. Certificates may change while it is used.
	TLS *tls.Config
	// Tunnel keeps connections to a control plane that cannot reach Listener; nil keeps
	// none.
	Tunnel Tunnel
	// MetricsListener is the port for Prometheus and readiness; nil for none. Run
	// closes it.
	MetricsListener net.Listener
	// Collectors are shown with the manager's own metrics.
	Collectors []prometheus.Collector

	// Name of the cluster, which is the environment name. Required.
	Name string
	// Namespace that is watched and written. Required.
	Namespace string
	// Region and Zone say where the cluster is.
	Region, Zone string
	// Labels are reported to the package manager as they are.
	Labels map[string]string
	// Availability is the declared availability within 0..1; nil for none.
	Availability *float64
	// Version of this program.
	Version string

	// Environment is what templates know of the cluster. Its Router and Knative are
	// ignored: they are discovered.
	Environment template.Environment
	// DisableODGM keeps the object store off whatever a class asks for.
	DisableODGM bool
	// DisableKnative keeps classes off Knative also where the cluster has it.
	DisableKnative bool

	// Concurrency is how many class runtimes are reconciled at a time. Default 32: most of
	// a pass is waiting for the API server.
	Concurrency int
	// ProgressDeadline is after how much time without readiness a class is
	// degraded. Default as in package lifecycle.
	ProgressDeadline time.Duration
	// CensusInterval is how old the reported resources of the cluster may be. Default
	// 30 s.
	CensusInterval time.Duration
	// LeaderElection makes replicas of the manager share one cluster: one of them
	// reconciles, all of them answer gRPC.
	LeaderElection bool
	// InstallCRD installs or upgrades the custom resource definition at the start.
	InstallCRD bool
	// CreateNamespace creates the namespace when it is missing.
	CreateNamespace bool

	// Logger of everything, the Kubernetes libraries included. Required.
	Logger hclog.Logger
	// Clock defaults to time.Now.
	Clock func() time.Time
	// Serving is called once the gRPC port answers; the manager may still be
	// waiting for its API server. Optional. It must not block; its context ends
	// with Run.
	Serving func(ctx context.Context)
}

// Validate fills in defaults and reports everything that is wrong at once.
func (o *Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.RESTConfig == nil {
		fail("RESTConfig is required")
	}
	if o.Listener == nil {
		fail("Listener is required")
	}
	if o.Logger == nil {
		fail("Logger is required")
	}
	for _, problem := range validation.IsDNS1123Label(o.Namespace) {
		fail("namespace %q: %s", o.Namespace, problem)
	}
	for _, problem := range validation.IsDNS1123Label(o.Name) {
		fail("cluster name %q: %s", o.Name, problem)
	}
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		if len(key) == 0 || len(key) > 128 || len(o.Labels[key]) > 256 {
			fail("label %q: keys have 1 to 128 characters, values at most 256", key)
		}
	}
	if a := o.Availability; a != nil && (math.IsNaN(*a) || *a < 0 || *a > 1) {
		fail("availability %v is not within 0..1", *a)
	}
	if err := o.Environment.Pods.Validate(); err != nil {
		fail("%w", err)
	}
	switch o.Environment.ODGM.PullPolicy {
	case "", "Always", "IfNotPresent", "Never":
	default:
		fail("odgm pull policy %q: want Always, IfNotPresent or Never", o.Environment.ODGM.PullPolicy)
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Concurrency < 0 || o.Concurrency > 256 {
		fail("concurrency %d is not within 1..256", o.Concurrency)
	}
	if o.CensusInterval == 0 {
		o.CensusInterval = DefaultCensusInterval
	}
	if o.CensusInterval < 0 {
		fail("census interval must not be negative")
	}
	if o.ProgressDeadline < 0 {
		fail("progress deadline must not be negative")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("crm options: %w", err)
	}
	return nil
}
