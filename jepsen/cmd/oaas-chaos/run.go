package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/deploy/local/workdir"
	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/run"
)

// flags are the settings of a run, and where its results go.
type flags struct {
	run.Options
	out, report string
	list        bool
	logLevel    string
}

func runCommand() *cobra.Command {
	f := flags{Options: run.Options{
		Duration: run.DefaultDuration, Nodes: run.DefaultNodes, Agents: run.DefaultAgents,
		Processes: run.DefaultProcesses, Rate: run.DefaultRate, Restore: true,
		Shape: nemesis.Options{MeanFault: nemesis.DefaultMeanFault, MeanPause: nemesis.DefaultMeanPause, Overlap: nemesis.DefaultOverlap},
	}}
	cmd := &cobra.Command{
		Use:   "oaas-chaos",
		Short: "Break a real control plane on purpose while it is used, and judge whether it kept its promises",
		Long: `oaas-chaos starts pmd nodes, clusters and users, breaks them by a schedule that a seed
determines, heals them, and judges the history of all that was asked and answered.

Exit codes: 0 all promises kept, 1 one was broken, 2 usage, or it could not run.`,
		Example: `  oaas-chaos --bin bin --seed 42 --duration 15m
  oaas-chaos --bin bin --nemesis kill-leader,partition-leader --workload register --duration 2m
  oaas-chaos --bin bin --list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				f.Seed = uint64(rand.Uint32()) //nolint:gosec // any will do; short ones are typed more easily
			}
			return f.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f.bind(cmd)
	return cmd
}

func (f *flags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Uint64Var(&f.Seed, "seed", 0, "seed of the schedule and of all that is asked (default: a random one, which is printed)")
	fs.DurationVar(&f.Duration, "duration", f.Duration, "how long faults come and go")
	fs.IntVar(&f.Nodes, "nodes", f.Nodes, "pmd nodes, an odd number")
	fs.IntVar(&f.CRMs, "crms", f.CRMs, "crm processes, each in a namespace of a local Kubernetes")
	fs.IntVar(&f.Agents, "agents", f.Agents, "clusters in memory")
	fs.StringSliceVar(&f.Nemeses, "nemesis", nil, "only these faults, see --list")
	fs.StringSliceVar(&f.Workloads, "workload", nil, "only these users: "+strings.Join(run.WorkloadNames(), ", "))
	fs.IntVar(&f.Processes, "processes", f.Processes, "users of each workload")
	fs.Float64Var(&f.Rate, "rate", f.Rate, "operations a second of each workload")
	fs.DurationVar(&f.Shape.MeanFault, "fault", f.Shape.MeanFault, "how long a fault lasts on average")
	fs.DurationVar(&f.Shape.MeanPause, "pause", f.Shape.MeanPause, "how long nothing is broken between two, on average")
	fs.Float64Var(&f.Shape.Overlap, "overlap", f.Shape.Overlap, "share of faults that a second one joins, 0 to 1")
	fs.StringVar(&f.Bin, "bin", "", "directory of pmd and crm (default: they are built)")
	fs.StringVar(&f.UpgradeBin, "upgrade-bin", "", "directory of another build of pmd, for the fault upgrade")
	fs.StringVar(&f.Dir, "dir", "", "keep logs, data and history in this directory (default: a temporary one)")
	fs.BoolVar(&f.Keep, "keep", false, "keep the temporary directory also when all promises were kept")
	fs.BoolVar(&f.Loopback, "loopback", false, "do without network namespaces")
	fs.StringArrayVar(&f.PMArgs, "pm-arg", nil, "added to the command line of every pmd; can be repeated")
	fs.DurationVar(&f.Settle, "settle", 0, "how long the clusters may take in the end until nothing is left to do (default: 1m30s, with a crm 5m)")
	fs.BoolVar(&f.Restore, "restore", f.Restore, "end with a restore of a snapshot under load")
	fs.StringVar(&f.out, "out", "", "write the figures as JSON to this file")
	fs.StringVar(&f.report, "report", "", "write the report, an HTML page, to this file")
	fs.BoolVar(&f.list, "list", false, "list the faults, and why some cannot be made here; nothing else is done")
	fs.StringVar(&f.logLevel, "log-level", "error", "of the harness's own log: trace, debug, info, warn or error")
	complete(cmd, "nemesis", nemesis.Names(nemesis.All()))
	complete(cmd, "workload", run.WorkloadNames())
}

// complete offers values for a flag. It fails only for a flag that is not there.
func complete(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(slices.Clone(values), cobra.ShellCompDirectiveNoFileComp))
}

func (f *flags) run(ctx context.Context, out io.Writer) error {
	if err := f.Validate(); err != nil {
		return err
	}
	f.Progress = out
	f.Logger = hclog.New(&hclog.LoggerOptions{Name: "oaas-chaos", Level: hclog.LevelFromString(f.logLevel), Output: os.Stderr})
	scratch, err := workdir.New("", "chaos-bin")
	if err != nil {
		return err
	}
	defer func() { _ = scratch.Remove() }() // a temporary directory that stays is no reason to lose the results
	f.Command = f.command(f.Bin)
	if f.Bin == "" {
		f.Bin = scratch.Path
		programs := []string{"pmd"}
		if f.CRMs > 0 {
			programs = append(programs, "crm")
		}
		if err := system.Build(ctx, f.Bin, programs...); err != nil {
			return err
		}
	}
	if f.list {
		return f.printList(ctx, out)
	}
	_, _ = fmt.Fprintf(out, "Seed %d. To do it again:\n  %s\n", f.Seed, f.Command)
	result, err := run.Run(ctx, f.Options)
	if err != nil {
		return err
	}
	return f.publish(out, result)
}

// command is how to do it again: all that the schedule and the requests depend on. Which faults can be made here is part of that.
func (f *flags) command(bin string) string {
	parts := []string{
		"bin/oaas-chaos", fmt.Sprintf("--seed %d --duration %s --nodes %d --crms %d --agents %d", f.Seed, f.Duration, f.Nodes, f.CRMs, f.Agents),
		fmt.Sprintf("--processes %d --rate %g --fault %s --pause %s --overlap %g --restore=%t", f.Processes, f.Rate, f.Shape.MeanFault, f.Shape.MeanPause, f.Shape.Overlap, f.Restore),
	}
	add := func(flag, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf("--%s %s", flag, value))
		}
	}
	add("nemesis", strings.Join(f.Nemeses, ","))
	add("workload", strings.Join(f.Workloads, ","))
	for _, arg := range f.PMArgs {
		add("pm-arg", arg)
	}
	if f.Loopback {
		parts = append(parts, "--loopback")
	}
	if f.Settle > 0 {
		add("settle", f.Settle.String())
	}
	add("bin", bin)
	add("upgrade-bin", f.UpgradeBin)
	return strings.Join(parts, " ")
}

func (f *flags) printList(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	missing, err := run.Missing(ctx, f.Options)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) // keeps what is written until Flush, which has the error
	_, _ = fmt.Fprintln(tw, "NEMESIS\tAVAILABLE\tWHAT IT DOES")
	for _, n := range nemesis.All() {
		available := "yes"
		if reason, not := missing[n.Name()]; not {
			available = "no: " + reason
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\n", n.Name(), available, n.About())
	}
	return tw.Flush()
}

// publish prints and writes the results.
func (f *flags) publish(out io.Writer, r *run.Result) error {
	figures := r.Figures()
	err := bench.WriteTable(out, figures)
	if f.out != "" {
		err = errors.Join(err, bench.WriteJSON(f.out, figures))
	}
	if f.report != "" {
		err = errors.Join(err, r.WriteReport(f.report))
	}
	if r.Dir != "" {
		_, _ = fmt.Fprintf(out, "Logs, data and history are in %s\n", r.Dir)
	}
	if err != nil {
		return err
	}
	if failed := bench.Failed(figures); failed > 0 {
		_, _ = fmt.Fprintf(out, "%d of %d figures miss their bound. To do it again:\n  %s\n", failed, len(figures), f.Command)
		return errBroken
	}
	return nil
}
