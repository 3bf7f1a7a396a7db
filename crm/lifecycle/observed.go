package lifecycle

import (
	"errors"
	"fmt"
	"time"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Options are the times of the machine.
type Options struct {
	// ProgressDeadline is how long children may take to become ready before
	// the class is degraded without a known cause. Default 10 minutes.
	ProgressDeadline time.Duration
	// LossGrace is how long a function that was ready may be gone before the
	// class is degraded. Default 30 seconds. Available is withdrawn at once.
	LossGrace time.Duration
	// FaultGrace is how long a fault of a pod or a failed apply that may pass
	// by itself is tolerated. Default 30 seconds.
	FaultGrace time.Duration
	// CapacityGrace is how long a pod may wait for a node, so that an
	// autoscaler of nodes can help. Default 1 minute.
	CapacityGrace time.Duration
	// ProbeGrace is how long a container may run without becoming ready.
	// Default 2 minutes.
	ProbeGrace time.Duration
	// DeletionDeadline is how long children may take to go before their
	// deletion is reported as blocked. Default 5 minutes.
	DeletionDeadline time.Duration
	// StalledRetry is how often something that only a person can mend is
	// looked at again. Default 5 minutes.
	StalledRetry time.Duration
	// DeletionPoll is how often remaining children are looked at, besides the
	// watches. Default 2 seconds.
	DeletionPoll time.Duration
}

// WithDefaults returns o with every zero replaced by its default.
func (o Options) WithDefaults() Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&o.ProgressDeadline, 10*time.Minute)
	set(&o.LossGrace, 30*time.Second)
	set(&o.FaultGrace, 30*time.Second)
	set(&o.CapacityGrace, time.Minute)
	set(&o.ProbeGrace, 2*time.Minute)
	set(&o.DeletionDeadline, 5*time.Minute)
	set(&o.StalledRetry, 5*time.Minute)
	set(&o.DeletionPoll, 2*time.Second)
	return o
}

// Validate reports every time that is negative.
func (o Options) Validate() error {
	var errs []error
	check := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative: %s", name, d))
		}
	}
	check("ProgressDeadline", o.ProgressDeadline)
	check("LossGrace", o.LossGrace)
	check("FaultGrace", o.FaultGrace)
	check("CapacityGrace", o.CapacityGrace)
	check("ProbeGrace", o.ProbeGrace)
	check("DeletionDeadline", o.DeletionDeadline)
	check("StalledRetry", o.StalledRetry)
	check("DeletionPoll", o.DeletionPoll)
	return errors.Join(errs...)
}

// Observed is everything a verdict depends on.
type Observed struct {
	// Generation of the ClassRuntime.
	Generation int64
	// Deleted is the deletion timestamp, zero while the object is wanted.
	Deleted time.Time
	// HasFinalizer reports whether our finalizer is present.
	HasFinalizer bool
	// Delivery is spec.delivery.
	Delivery *v1alpha1.Delivery

	// Template is the name of the chosen template; empty, as when nothing was
	// rendered, keeps what the status says.
	Template string
	// RenderFault is why the spec cannot be rendered, nil if it can.
	RenderFault *Fault
	// Intents are the rendered children and whether they stand in the cluster.
	Intents []Intent
	// IntentHash identifies the rendered children as a whole.
	IntentHash string

	// Functions are in the order of spec.functions. They are known even when
	// the spec cannot be rendered.
	Functions []Function
	// ODGM is the object store, nil when it is off.
	ODGM *Unit

	// ChildrenListed reports that Children is a complete list. Without it the
	// finalizer stays.
	ChildrenListed bool
	// Children are all existing objects that belong to the ClassRuntime.
	Children []Child

	// Telemetry says whether the containers export telemetry. It is not read
	// while the object is being deleted.
	Telemetry TelemetryState
	// Routers are the Zenoh routers of the namespace; nil keeps what the
	// status says.
	Routers []v1alpha1.RouterStatus

	// Previous is the status as last stored.
	Previous v1alpha1.ClassRuntimeStatus
}

// TelemetryState says whether the containers export telemetry.
type TelemetryState int

// Telemetry states.
const (
	TelemetryOff TelemetryState = iota
	TelemetryOn
	// TelemetryNoEndpoint: wanted, but there is nowhere to send it.
	TelemetryNoEndpoint
)

// Fault is something that does not work.
type Fault struct {
	// Reason is one of the documented reasons that degrade.
	Reason v1alpha1.Reason
	// Message is the cause in words. It must not hold what changes on every
	// try, such as counters or pod names, or the status would never rest.
	Message string
	// Since is when it was first seen, zero if unknown.
	Since time.Time
	// Created is when the pod with the fault was created; zero for other faults.
	Created time.Time
}

// IntentState says how a rendered child stands in the cluster.
type IntentState int

// Intent states.
const (
	// IntentMissing: the object is not there.
	IntentMissing IntentState = iota
	// IntentDrifted: the object is there, but not as rendered.
	IntentDrifted
	// IntentTerminating: the object is being deleted and has to go first.
	IntentTerminating
	// IntentApplied: the object is as rendered.
	IntentApplied
)

// Intent is a rendered child.
type Intent struct {
	// Kind and Name identify the child in the namespace. Kinds are words for people:
	// that of a Knative Service is KindKnativeService.
	Kind, Name string
	// State in the cluster.
	State IntentState
	// Fault is why the last try to apply it failed, nil if it did not.
	Fault *Fault
}

// Function is one function of the spec.
type Function struct {
	// Key, Service, Port and URL are reported as they are.
	Key, Service string
	Port         int32
	URL          string
	// ObservedURL is where the function says that it is called; empty if nothing
	// but URL is known.
	ObservedURL string
	// WASM functions run in the object store.
	WASM bool
	// Unit is what runs a container function; ignored for WASM functions.
	Unit Unit
}

// Unit is a workload and the Service in front of it.
type Unit struct {
	Workload Workload
	Service  Service
}

// Service is a Service as observed.
type Service struct {
	Exists, Terminating bool
}

// Workload is a Deployment, or what plays its part. Kind and Name are set even
// if it does not exist.
type Workload struct {
	Kind, Name          string
	Exists, Terminating bool
	// Generation of the spec and the one that its controller has seen.
	// Generation must not be older than the last apply: see DeploymentWorkload.
	Generation, ObservedGeneration int64
	// Desired replicas, and those that exist, have the newest template, and can
	// be called.
	Desired, Total, Updated, Available int32
	// Elastic says that an autoscaler may change Desired at any time. Then Least
	// replicas make the workload complete: those beyond come and go.
	Elastic bool
	Least   int32
	// Unscaled is why the autoscaler does not work, empty if it does or there is
	// none. The replicas stay as they are then, which is no fault.
	Unscaled string
	// State says in words how far a workload is that has no replicas to count.
	State string
	// Faults of the workload and of its pods.
	Faults []Fault
}

// Child is an existing object that belongs to the ClassRuntime. Its kind is a word for
// people as that of an Intent; Ref is what it is to the API server.
type Child struct {
	Kind, Name string
	Ref        v1alpha1.ResourceRef
	// Deleted is its deletion timestamp, zero if it is not being deleted.
	Deleted time.Time
	// Finalizers that hold it.
	Finalizers []string
}

// callable reports whether someone who calls the unit reaches a replica, or
// finds none because none is wanted.
func (u *Unit) callable() bool {
	w := &u.Workload
	return u.Service.Exists && !u.Service.Terminating && w.Exists && !w.Terminating &&
		(w.Available > 0 || w.asleep())
}

// asleep reports that no replica is wanted and the controller knows it.
func (w *Workload) asleep() bool {
	return w.Desired == 0 && w.ObservedGeneration >= w.Generation
}

// complete reports whether the unit is callable and its rollout is over: every
// replica that has to be there has the newest template and can be called, and no
// old one is left.
func (u *Unit) complete() bool { return u.has(u.Workload.required()) }

// settled reports whether the unit is complete and has every replica that is
// wanted now, those of an autoscaler included.
func (u *Unit) settled() bool { return u.has(u.Workload.Desired) }

func (u *Unit) has(replicas int32) bool {
	w := &u.Workload
	return u.callable() && w.ObservedGeneration >= w.Generation &&
		w.Updated >= replicas && w.Total <= w.Updated && w.Available >= replicas
}

// required is how many replicas have to be available.
func (w *Workload) required() int32 {
	if w.Elastic {
		return min(w.Least, w.Desired)
	}
	return w.Desired
}
