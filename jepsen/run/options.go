package run

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/workload"
)

// Options describe a run. Bin is the only field without a default.
type Options struct {
	// Seed of everything that is random.
	Seed uint64
	// Duration is how long faults come and go. The rest of a run takes about as long as it needs.
	Duration time.Duration
	// Nodes, CRMs and Agents are how many of each there are.
	Nodes, CRMs, Agents int
	// Nemeses and Workloads by name; none is all.
	Nemeses, Workloads []string
	// Shape of the schedule.
	Shape nemesis.Options
	// Processes and Rate are those of each workload: how many users it has, and how many operations a second they begin.
	Processes int
	Rate      float64
	// Bin is the directory of pmd and crm, UpgradeBin that of another build of pmd, if there is one.
	Bin, UpgradeBin string
	// Dir keeps logs, data and history; empty is a temporary directory, which is removed when every promise was kept, unless Keep.
	Dir  string
	Keep bool
	// Loopback does without namespaces.
	Loopback bool
	// PMArgs are added to the command line of every node.
	PMArgs []string
	// Settle is how long the cluster may take, after the last heal, until nothing is left to do. Default: a Kubernetes that shares
	// the machine with all the rest gets more time than agents.
	Settle time.Duration
	// Restore ends the run with a restore under load.
	Restore bool
	// Progress is told how it goes, in lines for people.
	Progress io.Writer
	// Command is how the report says to do it again.
	Command string
	Logger  hclog.Logger
}

// Defaults of Options.
const (
	DefaultDuration  = 15 * time.Minute
	DefaultNodes     = 3
	DefaultAgents    = 3
	DefaultProcesses = 4
	DefaultRate      = 20
	// DefaultSettle is that of a run with agents only, DefaultSettleCRM that of one with a crm.
	DefaultSettle    = 90 * time.Second
	DefaultSettleCRM = 5 * time.Minute
)

func (o *Options) withDefaults() Options {
	filled := *o
	fill(&filled.Duration, DefaultDuration)
	fill(&filled.Nodes, DefaultNodes)
	fill(&filled.Processes, DefaultProcesses)
	fill(&filled.Rate, DefaultRate)
	if filled.CRMs > 0 {
		fill(&filled.Settle, DefaultSettleCRM)
	}
	fill(&filled.Settle, DefaultSettle)
	if filled.Progress == nil {
		filled.Progress = io.Discard
	}
	if filled.Logger == nil {
		filled.Logger = hclog.NewNullLogger()
	}
	return filled
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports what a run cannot be made of.
func (o *Options) Validate() error {
	var errs []error
	if o.Duration < 0 || o.Processes < 0 || o.Rate < 0 {
		errs = append(errs, fmt.Errorf("duration %s, processes %d and rate %g must not be negative", o.Duration, o.Processes, o.Rate))
	}
	if o.Shape.Overlap < 0 || o.Shape.Overlap > 1 {
		errs = append(errs, fmt.Errorf("overlap %g: want 0 to 1", o.Shape.Overlap))
	}
	if _, err := nemesis.Named(o.Nemeses...); err != nil {
		errs = append(errs, err)
	}
	if _, err := workloads(o.Workloads); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// WorkloadNames are those that can be asked for.
func WorkloadNames() (names []string) {
	for _, w := range workload.All() {
		names = append(names, w.Name())
	}
	return names
}

// workloads gives those of some names, all for none, without the one that looks at the nodes: that one always runs.
func workloads(names []string) ([]workload.Workload, error) {
	for _, name := range names {
		if !slices.Contains(WorkloadNames(), name) {
			return nil, fmt.Errorf("no workload %q; there are %v", name, WorkloadNames())
		}
	}
	var chosen []workload.Workload
	for _, w := range workload.All() {
		if (len(names) == 0 || slices.Contains(names, w.Name())) && w.Name() != history.Probe {
			chosen = append(chosen, w)
		}
	}
	return chosen, nil
}
