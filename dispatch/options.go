package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// Registry is what the loops need of the operations on the state.
type Registry interface {
	State() *fsm.State
	PutCluster(ctx context.Context, term uint64, name string, change func(row *pmpb.Cluster) error) error
	BuryStrays(ctx context.Context, term uint64, env string, units []string) error
	UpdateUnits(ctx context.Context, term uint64, updates []*pmpb.UnitUpdate) error
	AdvanceRollout(ctx context.Context, term uint64, key string, patience time.Time) (*registry.RolloutProgress, error)
	Relocations(snap *fsm.Snapshot) []registry.Relocation
	Relocate(ctx context.Context, term uint64, key string) (*registry.MoveProgress, error)
	AdvanceMove(ctx context.Context, term uint64, key string) (*registry.MoveProgress, error)
}

// Candidates is where clusters are found.
type Candidates interface {
	// Candidates lists what is known now.
	Candidates() []discovery.Candidate
	// Changed is signalled after the list may have changed.
	Changed() <-chan struct{}
}

// Dialer opens a lazily connecting client connection to the manager of a cluster. The
// address is one of package discovery, which says whether TLS is spoken there. Who
// answers may have to prove to be the cluster's; see ErrUntrusted.
type Dialer func(cluster, address string) (*grpc.ClientConn, error)

// Options configure a Manager. Zero durations and counts take the defaults.
type Options struct {
	Registry   Registry
	Candidates Candidates
	Dial       Dialer
	Logger     hclog.Logger
	Metrics    prometheus.Registerer
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Clock is the time that is compared with what other leaders have stored: all nodes'
	// should agree better than Health.Skew. Default Now.
	Clock func() time.Time
	// Node is this node's name, for people. Observers are the other nodes, which are asked
	// to try and reach a cluster that this one does not; nil when there are none.
	Node      string
	Observers Observers

	// CallTimeout bounds one Deploy or Delete. Default 10 s.
	CallTimeout time.Duration
	// MaxInFlight bounds the concurrent calls to one cluster. Default 8.
	MaxInFlight int
	// MaxInFlightTotal bounds the concurrent calls to all clusters together, beyond
	// the one that each may have in any case. Default 256.
	MaxInFlightTotal int
	// BreakerFailures is after how many calls in a row that a cluster did not answer
	// only probes are sent to it. Default 5.
	BreakerFailures int
	// ProbeMin and ProbeMax bound the growing pauses between those. Defaults 500 ms
	// and 15 s.
	ProbeMin, ProbeMax time.Duration
	// RetryRefused is how long a unit that the cluster refused for good waits
	// before it is tried again, unless its wish changes earlier. Default 5 min.
	RetryRefused time.Duration
	// RetryMin and RetryMax bound the exponential backoff after a transient
	// failure. Defaults 200 ms and 15 s.
	RetryMin, RetryMax time.Duration
	// SilenceLimit ends a stream that brought nothing, not even a heartbeat, for
	// so long. Default 15 s.
	SilenceLimit time.Duration
	// InventoryLimit ends a stream whose inventory is not complete after so long.
	// Default 2 min.
	InventoryLimit time.Duration
	// PollInterval is how often a manager without a stream is asked. Default 2 s.
	PollInterval time.Duration
	// Health has the deadlines by which clusters are suspected, and given up.
	Health liveness.Limits
	// InfoInterval is how often a cluster's description is refreshed. Default 30 s.
	InfoInterval time.Duration
	// RolloutPatience is how long after it began to lead a node lets no rollout fail for
	// want of progress. Default 15 s.
	RolloutPatience time.Duration
	// StrayPatience is for how long a runtime that nothing wants is watched before it is
	// remembered, StrayGrace for how long it is remembered before it is removed. Defaults
	// 30 s and 60 min.
	StrayPatience, StrayGrace time.Duration
	// MoveInterval is how often it is looked what is to be moved, and what goes on with what
	// is moving. Default 1 s.
	MoveInterval time.Duration
	// MoveRate and MoveBurst bound how many deployments are moved because environments are
	// lost or drained: so many per second in the long run, and so many at once. A new leader
	// begins with none. Defaults 0.5 and 10.
	MoveRate  float64
	MoveBurst int
	// BatchWindow is how long the reporter gathers updates before it commits
	// them. Default 10 ms.
	BatchWindow time.Duration
	// BatchSize bounds the updates in one command. Default 256.
	BatchSize int
	// BatchBytes ends a batch once it has so many bytes. Together with what a cluster
	// hands over at a time, batchBytes and one update, it must fit into one command.
	// Default 192 KiB.
	BatchBytes int
}

// Validate reports what is missing or out of range.
func (o *Options) Validate() error {
	switch {
	case o.Registry == nil:
		return errors.New("dispatch: Registry is required")
	case o.Candidates == nil:
		return errors.New("dispatch: Candidates is required")
	case o.Dial == nil:
		return errors.New("dispatch: Dial is required")
	case o.RetryMin > 0 && o.RetryMax > 0 && o.RetryMin > o.RetryMax:
		return fmt.Errorf("dispatch: RetryMin %s is above RetryMax %s", o.RetryMin, o.RetryMax)
	case o.ProbeMin > 0 && o.ProbeMax > 0 && o.ProbeMin > o.ProbeMax:
		return fmt.Errorf("dispatch: ProbeMin %s is above ProbeMax %s", o.ProbeMin, o.ProbeMax)
	case o.MaxInFlight < 0 || o.MaxInFlightTotal < 0 || o.BreakerFailures < 0 || o.MoveBurst < 0:
		return errors.New("dispatch: MaxInFlight, MaxInFlightTotal, BreakerFailures and MoveBurst must not be negative")
	case !(o.MoveRate >= 0) || o.MoveInterval < 0:
		return errors.New("dispatch: MoveRate and MoveInterval must not be negative")
	}
	if err := o.Health.Validate(); err != nil {
		return fmt.Errorf("dispatch: Health: %w", err)
	}
	return nil
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Clock == nil {
		o.Clock = o.Now
	}
	o.Health = o.Health.WithDefaults()
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.CallTimeout, 10 * time.Second},
		{&o.RetryRefused, 5 * time.Minute},
		{&o.RetryMin, 200 * time.Millisecond},
		{&o.RetryMax, 15 * time.Second},
		{&o.ProbeMin, 500 * time.Millisecond},
		{&o.ProbeMax, 15 * time.Second},
		{&o.SilenceLimit, 15 * time.Second},
		{&o.InventoryLimit, 2 * time.Minute},
		{&o.PollInterval, 2 * time.Second},
		{&o.InfoInterval, 30 * time.Second},
		{&o.RolloutPatience, 15 * time.Second},
		{&o.StrayPatience, 30 * time.Second},
		{&o.StrayGrace, time.Hour},
		{&o.MoveInterval, time.Second},
		{&o.BatchWindow, 10 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.MoveRate == 0 {
		o.MoveRate = 0.5
	}
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.MaxInFlight, 8},
		{&o.MaxInFlightTotal, 256},
		{&o.BreakerFailures, 5},
		{&o.MoveBurst, 10},
		{&o.BatchSize, 256},
		{&o.BatchBytes, 192 << 10},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}
