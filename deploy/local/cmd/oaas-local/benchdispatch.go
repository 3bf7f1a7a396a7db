package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/deploy/local/workdir"
)

// dispatchLimit ends a measurement that hangs.
const dispatchLimit = 60 * time.Minute

// dispatchOptions are the flags of bench-dispatch.
type dispatchOptions struct {
	stackOptions
	out         string
	profile     string
	agents      int
	rate        int
	duration    time.Duration
	units       int
	leaderUnits int
	kills       int
	outage      time.Duration
	only        []string
}

// dispatchFigure is a group of figures that are measured together on a system of its own.
type dispatchFigure struct {
	name    string
	measure func(context.Context, *dispatchStack) ([]bench.Result, error)
	// hostile figures have one agent of each misbehaviour among the others.
	hostile bool
}

func dispatchFigures() []dispatchFigure {
	return []dispatchFigure{
		{name: "latency", measure: measureLatency},
		{name: "cold", measure: measureCold},
		{name: "leader", measure: measureLeader},
		{name: "outage", measure: measureOutage},
		{name: "hostile", measure: measureHostile, hostile: true},
	}
}

func benchDispatchCommand() *cobra.Command {
	options := dispatchOptions{profile: "standard", agents: 100, rate: 200, duration: time.Minute, units: 10_000, leaderUnits: 30_000, kills: 3, outage: 90 * time.Second}
	cmd := &cobra.Command{
		Use:   "bench-dispatch",
		Short: "Measure how three nodes serve many clusters: latency, cold clusters, change of leader, an outage, misbehaving managers (no Kubernetes)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBenchDispatch(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	fs := cmd.Flags()
	fs.StringVar(&options.out, "out", "", "write the results as JSON to this file")
	fs.StringVar(&options.profile, "profile", options.profile, "Raft timing of the nodes")
	fs.IntVar(&options.agents, "agents", options.agents, "clusters, each with a manager in memory")
	fs.IntVar(&options.rate, "rate", options.rate, "deployments per second that are posted, whether or not the earlier ones are answered")
	fs.DurationVar(&options.duration, "duration", options.duration, "how long they are")
	fs.IntVar(&options.units, "units", options.units, "units that wait for cold clusters")
	fs.IntVar(&options.leaderUnits, "leader-units", options.leaderUnits, "units that are there when the leader changes")
	fs.IntVar(&options.kills, "kills", options.kills, "how often the leader is killed")
	fs.DurationVar(&options.outage, "outage", options.outage, "how long a cluster is cut off")
	fs.StringSliceVar(&options.only, "only", nil, "measure only these: "+strings.Join(dispatchNames(), ", "))
	return cmd
}

func dispatchNames() (names []string) {
	for _, f := range dispatchFigures() {
		names = append(names, f.name)
	}
	return names
}

// Validate reports flags that cannot be used.
func (o *dispatchOptions) Validate() error {
	var errs []error
	for flag, n := range map[string]int{"rate": o.rate, "units": o.units, "leader-units": o.leaderUnits, "kills": o.kills} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--%s %d: want 1 or more", flag, n))
		}
	}
	if least := len(agent.Misbehaviours()) + 1; o.agents < least {
		errs = append(errs, fmt.Errorf("--agents %d: want %d or more", o.agents, least))
	}
	for flag, d := range map[string]time.Duration{"duration": o.duration, "outage": o.outage} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("--%s %s: want more than 0", flag, d))
		}
	}
	for _, name := range o.only {
		if !slices.Contains(dispatchNames(), name) {
			errs = append(errs, fmt.Errorf("--only %s: want some of %s", name, strings.Join(dispatchNames(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func runBenchDispatch(ctx context.Context, out io.Writer, options *dispatchOptions) error {
	results, err := measureDispatch(ctx, options)
	return publish(out, options.out, results, err)
}

// measureDispatch gives what was measured, also when not all could be.
func measureDispatch(ctx context.Context, options *dispatchOptions) ([]bench.Result, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dispatchLimit, fmt.Errorf("the measurement took longer than %s", dispatchLimit))
	defer cancel()
	scratch, err := workdir.New("", "bench-dispatch")
	if err != nil {
		return nil, err
	}
	defer func() { _ = scratch.Remove() }() // a temporary directory that stays is no reason to lose the results
	bin := options.bin
	if bin == "" {
		bin = scratch.Path
		if err := system.Build(ctx, bin, "pmd"); err != nil {
			return nil, err
		}
	}
	var results []bench.Result
	for _, figure := range dispatchFigures() {
		if len(options.only) > 0 && !slices.Contains(options.only, figure.name) {
			continue
		}
		say("%s ...", figure.name)
		more, err := measureDispatchFigure(ctx, bin, figure, options)
		results = append(results, more...)
		for _, r := range more {
			say("  %s %g %s (%s)", r.Name, r.Value, r.Unit, r.Bound)
		}
		if err != nil {
			return results, fmt.Errorf("%s: %w", figure.name, err)
		}
	}
	return results, nil
}

func measureDispatchFigure(ctx context.Context, bin string, figure dispatchFigure, options *dispatchOptions) ([]bench.Result, error) {
	dir := options.dir
	if dir != "" {
		dir += "/" + figure.name
	}
	s, err := startDispatch(ctx, bin, dir, figure.hostile, options)
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	return figure.measure(ctx, s)
}
