package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/deploy/local/workdir"
)

// crmLimit ends a measurement that hangs.
const crmLimit = 90 * time.Minute

// crmOptions are the flags of bench-crm.
type crmOptions struct {
	stackOptions
	out     string
	classes int
	pairs   int
	rest    time.Duration
	only    []string
}

// crmFigure is a group of figures that are measured together, on clusters of their own.
type crmFigure struct {
	name    string
	measure func(*crmBench, context.Context) ([]bench.Result, error)
}

func crmFigures() []crmFigure {
	return []crmFigure{
		{"throughput", (*crmBench).measureThroughput},
		{"rest", (*crmBench).measureRest},
		{"leader-kill", (*crmBench).measureLeaderKill},
		{"faults", (*crmBench).measureFaults},
		{"bad-input", (*crmBench).measureBadObjects},
	}
}

func benchCRMCommand() *cobra.Command {
	options := crmOptions{classes: 500, pairs: 3, rest: 5 * time.Minute}
	cmd := &cobra.Command{
		Use:   "bench-crm",
		Short: "Measure what a manager of class runtimes promises: throughput, rest, change of leader, faults, bad objects",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBenchCRM(cmd.Context(), cmd.OutOrStdout(), &options)
		},
	}
	options.bind(cmd.Flags())
	cmd.Flags().StringVar(&options.out, "out", "", "write the results as JSON to this file")
	cmd.Flags().IntVar(&options.classes, "classes", options.classes, "class runtimes of two functions each")
	cmd.Flags().IntVar(&options.pairs, "pairs", options.pairs, "how often the throughput is measured with a manager and without")
	cmd.Flags().DurationVar(&options.rest, "rest", options.rest, "how long nothing changes while writes are counted")
	cmd.Flags().StringSliceVar(&options.only, "only", nil, "measure only these: "+strings.Join(crmNames(), ", "))
	return cmd
}

func crmNames() (names []string) {
	for _, f := range crmFigures() {
		names = append(names, f.name)
	}
	return names
}

// Validate reports flags that cannot be used.
func (o *crmOptions) Validate() error {
	var errs []error
	if o.classes < minClasses {
		errs = append(errs, fmt.Errorf("--classes %d: want %d or more", o.classes, minClasses))
	}
	if o.pairs < 1 {
		errs = append(errs, fmt.Errorf("--pairs %d: want 1 or more", o.pairs))
	}
	if o.rest <= 0 {
		errs = append(errs, fmt.Errorf("--rest %s: want more than 0", o.rest))
	}
	for _, name := range o.only {
		if !slices.Contains(crmNames(), name) {
			errs = append(errs, fmt.Errorf("--only %s: want some of %s", name, strings.Join(crmNames(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func runBenchCRM(ctx context.Context, out io.Writer, options *crmOptions) error {
	results, err := measureCRM(ctx, options)
	return publish(out, options.out, results, err)
}

// crmBench is what all figures share.
type crmBench struct {
	options *crmOptions
	// bin has the programs, dir the logs.
	bin, dir string
	// stacks counts the clusters that were started, for the names of their directories.
	stacks int
	// memory is the highest VmHWM of any manager so far, in MiB.
	memory float64
}

// measureCRM gives what was measured, also when not all could be.
func measureCRM(ctx context.Context, options *crmOptions) ([]bench.Result, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	// What may take minutes once is done before any clock runs.
	if _, err := local.Build(ctx, local.BuildOptions{Progress: os.Stderr}); err != nil {
		return nil, err
	}
	// Without one, the library complains with a stack trace; what it has to say comes as errors anyway.
	ctrllog.SetLogger(logr.Discard())
	ctx, cancel := context.WithTimeoutCause(ctx, crmLimit, fmt.Errorf("the measurement took longer than %s", crmLimit))
	defer cancel()
	scratch, err := workdir.New("", "bench-crm")
	if err != nil {
		return nil, err
	}
	defer func() { _ = scratch.Remove() }() // a temporary directory that stays is no reason to lose the results
	b := &crmBench{options: options, bin: options.bin, dir: options.dir}
	if b.dir == "" {
		b.dir = scratch.File("logs")
	}
	if b.bin == "" {
		b.bin = scratch.File("bin")
		if err := system.Build(ctx, b.bin, "crm"); err != nil {
			return nil, err
		}
	}
	var results []bench.Result
	for _, figure := range crmFigures() {
		if len(options.only) > 0 && !slices.Contains(options.only, figure.name) {
			continue
		}
		say("%s ...", figure.name)
		more, err := figure.measure(b, ctx)
		for _, r := range more {
			say("  %s %g %s (%s)", r.Name, r.Value, r.Unit, r.Bound)
		}
		results = append(results, more...)
		if err != nil {
			return results, fmt.Errorf("%s: %w", figure.name, err)
		}
	}
	return results, nil
}

// say prints a line of progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
