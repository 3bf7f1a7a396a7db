package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/workdir"
	"oaas.io/control-plane/jepsen/run"
	"oaas.io/control-plane/jepsen/variant"
)

// proving are the settings of the command prove.
type proving struct {
	root, dir string
	names     []string
	round     time.Duration
	box       time.Duration
	seed      uint64
	loopback  bool
}

func proveCommand() *cobra.Command {
	p := proving{}
	cmd := &cobra.Command{
		Use:   "prove",
		Short: "Build the programs without one guard after the other, and see whether the harness finds out",
		Long: `prove builds pmd and crm with one guard taken out, and breaks them in the way in which the
guard matters, round after round, until a check objects or the time box is over. It needs the
sources of the module and the go command.

Exit codes: 0 each missing guard was found, 1 one was not, 2 usage, or it could not run.`,
		Example: "  oaas-chaos prove\n  oaas-chaos prove --variant fsync-off,stale-reads --round 30s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				p.seed = uint64(rand.Uint32()) //nolint:gosec // any will do
			}
			return p.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&p.root, "root", ".", "root of the module")
	fs.StringVar(&p.dir, "dir", "", "keep the output and the leftovers of all rounds in this directory (default: a temporary one)")
	fs.StringSliceVar(&p.names, "variant", nil, "only these variants")
	fs.DurationVar(&p.round, "round", time.Minute, "how long faults come and go in a round")
	fs.DurationVar(&p.box, "time-box", 0, "for each variant (default: its own)")
	fs.Uint64Var(&p.seed, "seed", 0, "seed of the first round (default: a random one); each round has the next")
	fs.BoolVar(&p.loopback, "loopback", false, "do without network namespaces")
	complete(cmd, "variant", variantNames())
	return cmd
}

func variantNames() (names []string) {
	for _, v := range variant.All() {
		names = append(names, v.Name)
	}
	return names
}

func (p *proving) run(ctx context.Context, out io.Writer) error {
	chosen, err := p.chosen()
	if err != nil {
		return err
	}
	work, err := workdir.New(p.dir, "chaos-prove")
	if err != nil {
		return err
	}
	work.Keep()
	_, _ = fmt.Fprintf(out, "Output and leftovers of all rounds are in %s\n", work.Path)
	var proofs []variant.Proof
	for _, v := range chosen {
		_, _ = fmt.Fprintf(out, "%s: without %s. %s\n", v.Name, v.Guard, v.Removed)
		proof := variant.Prove(ctx, p.root, filepath.Join(work.Path, "build"), v, p.round, p.seed, func(ctx context.Context, r variant.Round) ([]string, error) {
			caught, err := p.try(ctx, filepath.Join(work.Path, fmt.Sprintf("%s-%d", v.Name, r.Seed)), r)
			_, _ = fmt.Fprintf(out, "  seed %d: %s\n", r.Seed, outcomeOf(caught, err))
			return caught, err
		})
		proofs = append(proofs, proof)
		if ctx.Err() != nil {
			break
		}
	}
	if err := variant.WriteProofs(out, proofs); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if slices.ContainsFunc(proofs, func(p variant.Proof) bool { return len(p.Caught) == 0 }) {
		return errBroken
	}
	return nil
}

func (p *proving) chosen() (out []variant.Variant, err error) {
	for _, name := range p.names {
		v, err := variant.Find(name)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if out == nil {
		out = variant.All()
	}
	for i := range out {
		if p.box > 0 {
			out[i].TimeBox = p.box
		}
	}
	return out, nil
}

// try carries out a round in a process of its own: a variant may be one of the harness too.
// It gives the checks of the variant that object.
func (p *proving) try(ctx context.Context, dir string, r variant.Round) ([]string, error) {
	harness := filepath.Join(r.Bin, "oaas-chaos")
	if !r.Variant.Agents {
		var err error
		if harness, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // a log that is cut off is no reason to lose the result
	figures := filepath.Join(dir, "figures.json")
	cmd := exec.CommandContext(ctx, harness, p.arguments(r, dir, figures)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil, nil
	case !errors.As(err, &exit) || exit.ExitCode() != exitBroken:
		return nil, fmt.Errorf("%w, see %s", err, log.Name())
	}
	objecting, err := objections(figures)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(objecting, func(check string) bool { return !slices.Contains(r.Variant.Checks, check) }), nil
}

func (p *proving) arguments(r variant.Round, dir, figures string) []string {
	nodes := r.Variant.Nodes
	if nodes == 0 {
		nodes = run.DefaultNodes
	}
	args := []string{
		"--bin", r.Bin, "--seed", fmt.Sprint(r.Seed), "--duration", r.Length.String(), "--nodes", fmt.Sprint(nodes), "--agents", "2",
		"--nemesis", strings.Join(r.Variant.Nemeses, ","), "--workload", strings.Join(r.Variant.Workloads, ","),
		"--fault", "4s", "--pause", "3s", "--overlap", "0", "--processes", "20", "--rate", "80",
		"--restore=false", "--out", figures, "--report", filepath.Join(dir, "report.html"), "--dir", filepath.Join(dir, "run"),
	}
	if p.loopback {
		args = append(args, "--loopback")
	}
	return args
}

// objections are the checks that found something, by a run's figures.
func objections(path string) (checks []string, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var figures []bench.Result
	if err := json.Unmarshal(raw, &figures); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, f := range figures {
		if f.Name == run.HealedFigure && !f.OK {
			checks = append(checks, variant.Healed)
		}
		if check, is := strings.CutPrefix(f.Name, run.ViolationsFigure); is && !f.OK {
			checks = append(checks, strings.ReplaceAll(check, "_", " "))
		}
	}
	return checks, nil
}

func outcomeOf(caught []string, err error) string {
	switch {
	case err != nil:
		return "not run: " + err.Error()
	case len(caught) == 0:
		return "no check objects"
	default:
		return "found by " + strings.Join(caught, ", ")
	}
}
