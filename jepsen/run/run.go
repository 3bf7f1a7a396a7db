package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"oaas.io/control-plane/deploy/local/workdir"
	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/report"
	"oaas.io/control-plane/jepsen/workload"
)

const (
	// progressEvery is the time between two lines of progress.
	progressEvery = 5 * time.Second
	// healLimit is how long a healed cluster may take until all nodes are ready.
	healLimit = 90 * time.Second
	// restTime is how long the nodes are looked at while nobody uses them, before and after.
	restTime = 3 * time.Second
	// finalLimit bounds the last reads.
	finalLimit = time.Minute
	// stopLimit bounds the end of the cluster.
	stopLimit = time.Minute
)

// Result is what a run showed.
type Result struct {
	Options Options
	Began   time.Time
	Took    time.Duration
	Steps   []nemesis.Step
	Done    []nemesis.Done
	Missing []nemesis.Missing
	// Nodes by name, as they were at the end.
	Nodes []string
	// Broken is the stretch of the history in which faults came and went. Before it there was a while without users.
	Broken Span
	// Healed is when the last heal began, Ready when all nodes were ready after it, Rested when no cluster had anything left to do;
	// 0 when that did not come about in time.
	Healed, Ready, Rested time.Duration
	History               history.History
	Final                 history.Final
	Checks                *check.Result
	// Restored is the verdict on the restore, nil when there was none.
	Restored *check.Verdict
	// Versions of the programs.
	Versions []report.Field
	// Problems are what the harness itself could not do.
	Problems []error
	// Dir has logs, data and history; empty when they were removed.
	Dir string

	// telling is held for a line: faults and progress are told by goroutines of their own.
	telling sync.Mutex
}

// Kept reports that no promise was broken.
func (r *Result) Kept() bool {
	return r.Checks.OK() && r.Ready > 0 && r.Rested > 0
}

// Run makes a run. Its error says why there could be none; promises that were broken are in the result.
func Run(ctx context.Context, options Options) (*Result, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	o := options.withDefaults()
	// The programs run in directories of their own.
	for _, dir := range []*string{&o.Bin, &o.UpgradeBin} {
		if *dir == "" {
			continue
		}
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = absolute
	}
	work, err := workdir.New(o.Dir, "chaos")
	if err != nil {
		return nil, err
	}
	r := &Result{Options: o, Began: time.Now(), Dir: work.Path}
	if err := r.make(ctx, work.Path); err != nil {
		work.Keep()
		return nil, fmt.Errorf("%w (logs are in %s)", err, work.Path)
	}
	r.Took = time.Since(r.Began)
	if o.Dir != "" || o.Keep || !r.Kept() {
		work.Keep()
		return r, r.store()
	}
	r.Dir = ""
	return r, work.Remove()
}

// make starts, breaks, heals, looks and stops.
func (r *Result) make(ctx context.Context, dir string) error {
	r.say("Starting %d nodes, %d crm and %d agents, seed %d ...", r.Options.Nodes, r.Options.CRMs, r.Options.Agents, r.Options.Seed)
	r.Versions = versions(ctx, r.Options)
	s, err := startStack(ctx, dir, r.Options)
	if err != nil {
		return err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		return s.stop(stopCtx)
	}
	defer stop() //nolint:errcheck // after an error that is told already

	if err := r.plan(s); err != nil {
		return err
	}
	if err := r.use(ctx, s); err != nil {
		return err
	}
	if r.Options.Restore && r.Ready > 0 && r.Rested > 0 {
		r.say("Restoring a snapshot under load ...")
		r.restore(ctx, s)
	}
	r.say("Judging %d operations ...", len(r.History.Operations))
	r.judge()
	r.problem(stop())
	return nil
}

// plan says what will be done, and what cannot be.
func (r *Result) plan(s *stack) error {
	chosen, err := nemesis.Named(r.Options.Nemeses...)
	if err != nil {
		return err
	}
	can, cannot := nemesis.Split(s.target, chosen)
	r.Missing = cannot
	for _, m := range cannot {
		r.say("Not available: %s: %s", m.Name, oneLine(m.Reason))
	}
	r.Steps = nemesis.Schedule(r.Options.Seed, can, r.Options.Duration, r.Options.Shape)
	return nemesis.WriteSchedule(r.Options.Progress, r.Steps)
}

// use has the nodes looked at from before the first user until after the last.
func (r *Result) use(ctx context.Context, s *stack) error {
	chosen, err := workloads(r.Options.Workloads)
	if err != nil {
		return err
	}
	looking := startUsers(ctx, s, []workload.Workload{workload.Probe{}})
	defer looking.end() //nolint:errcheck // ended below, with its error
	if err := pause(ctx, restTime); err != nil {
		return err
	}
	if err := r.breakIt(ctx, s, chosen); err != nil {
		return err
	}
	r.settle(ctx, s)
	if err := pause(ctx, restTime); err != nil {
		return err
	}
	r.problem(looking.end())
	r.look(ctx, s)
	return nil
}

// breakIt lets the users go on while the schedule is carried out, and until all nodes are ready again.
func (r *Result) breakIt(ctx context.Context, s *stack, chosen []workload.Workload) error {
	nemeses, err := nemesis.Named(r.Options.Nemeses...)
	if err != nil {
		return err
	}
	users := startUsers(ctx, s, chosen)
	defer users.end() //nolint:errcheck // ended below, with its error
	progress := startProgress(ctx, s, r)
	r.Broken.From = s.recorder.Now()
	breakCtx, cancel := context.WithTimeout(ctx, r.Options.Duration)
	r.Done = nemesis.Run(breakCtx, s.target, nemeses, r.Steps, progress.fault)
	<-breakCtx.Done()
	cancel()
	r.Broken.To = s.recorder.Now()
	progress.end()

	// What was interrupted is healed all the same.
	healCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
	defer cancel()
	r.Healed = s.recorder.Now()
	if err := nemesis.Recover(healCtx, s.target); err != nil {
		r.problem(fmt.Errorf("after the heal: %w", err))
	} else {
		r.Ready = s.recorder.Now()
		r.say("All nodes are ready %s after the heal.", (r.Ready - r.Healed).Round(time.Millisecond))
	}
	r.problem(users.end())
	return ctx.Err()
}

// settle waits until nothing is left to do.
func (r *Result) settle(ctx context.Context, s *stack) {
	ctx, cancel := context.WithTimeout(ctx, r.Options.Settle)
	defer cancel()
	if err := s.rest(ctx); err != nil {
		r.problem(err)
		return
	}
	r.Rested = s.recorder.Now()
	r.say("Nothing is left to do %s after the heal.", (r.Rested - r.Healed).Round(time.Millisecond))
}

// look reads the state at the end.
func (r *Result) look(ctx context.Context, s *stack) {
	ctx, cancel := context.WithTimeout(ctx, finalLimit)
	defer cancel()
	final, err := workload.Observe(ctx, s.env)
	r.problem(err)
	final.Clusters, err = s.runtimes(ctx)
	r.problem(err)
	final.Fenced = s.fences.seen()
	r.Nodes, r.Final, r.History = s.nodes(), final, s.recorder.History()
}

// store writes what a later look at the run needs.
func (r *Result) store() error {
	file, err := os.Create(filepath.Join(r.Dir, "history.jsonl"))
	if err != nil {
		return err
	}
	if err := errors.Join(r.History.Write(file), file.Close()); err != nil {
		return err
	}
	return writeJSON(filepath.Join(r.Dir, "final.json"), r.Final)
}

func (r *Result) problem(err error) {
	if err != nil {
		r.say("Problem: %v", err)
		r.Problems = append(r.Problems, err)
	}
}

func (r *Result) say(format string, args ...any) {
	r.telling.Lock()
	defer r.telling.Unlock()
	_, _ = fmt.Fprintf(r.Options.Progress, format+"\n", args...) // progress that cannot be shown is no reason to end
}

// oneLine makes one line of an error of several.
func oneLine(text string) string { return strings.Join(strings.Split(text, "\n"), "; ") }

// versions asks the programs. One that does not say is not among them.
func versions(ctx context.Context, o Options) (out []report.Field) {
	programs := []string{filepath.Join(o.Bin, "pmd"), filepath.Join(o.Bin, "crm")}
	if o.UpgradeBin != "" {
		programs = append(programs, filepath.Join(o.UpgradeBin, "pmd"))
	}
	for _, program := range programs {
		if said, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil {
			out = append(out, report.Field{Name: filepath.Base(program), Value: strings.TrimSpace(string(said)), Note: program})
		}
	}
	return out
}

// users are workloads that run.
type users struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

func startUsers(ctx context.Context, s *stack, of []workload.Workload) *users {
	ctx, cancel := context.WithCancel(ctx)
	u := &users{cancel: cancel}
	for _, w := range of {
		u.group.Go(func() {
			if err := w.Run(ctx, s.env); err != nil {
				u.mu.Lock()
				defer u.mu.Unlock()
				u.errs = append(u.errs, fmt.Errorf("workload %s: %w", w.Name(), err))
			}
		})
	}
	return u
}

// end lets what is under way finish. It may be called again.
func (u *users) end() error {
	u.cancel()
	u.group.Wait()
	return errors.Join(u.errs...)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
