package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local/gate"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// calmFor is how long nothing may have been written before the count begins, calmPatience how long that is waited for.
	calmFor      = 10 * time.Second
	calmPatience = 3 * time.Minute
	// takeoverBound is how long nobody may work after the leader was killed: a lease lasts 15 s.
	takeoverBound = 20
)

// measureRest counts what two managers ask while nothing changes.
func (b *crmBench) measureRest(ctx context.Context) ([]bench.Result, error) {
	s, err := b.newStack(ctx, "rest")
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	if err := s.startReplicas(ctx); err != nil {
		return nil, err
	}
	leader, _, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	leader.gate.Reset()
	if _, err := s.populate(ctx); err != nil {
		return nil, err
	}
	if err := s.calm(ctx); err != nil {
		return nil, err
	}
	work := leader.gate.Counts()
	for _, m := range s.managers {
		m.gate.Reset()
	}
	if err := stillness(ctx, b.options.rest); err != nil {
		return nil, err
	}
	writes, leases, reads, watches := 0, 0, 0, 0
	by := map[string]int{}
	for _, m := range s.managers {
		m.remember()
		counts := m.gate.Counts()
		writes, leases, reads, watches = writes+counts.Writes, leases+counts.LeaseWrites, reads+counts.Reads, watches+counts.Watches
		for what, n := range counts.ByRequest {
			by[what] += n
		}
		for _, line := range m.gate.Recent() {
			say("  written by %s: %s", m.name, line)
		}
	}
	minutes := b.options.rest.Minutes()
	perClass := float64(work.Reads+work.Watches+work.Writes) / float64(b.options.classes)
	return []bench.Result{
		bench.Exactly("rest_writes", float64(writes), 0, "", fmt.Sprintf("to the API server in %s by two managers with leader election and %d available classes; leases apart; counted between them and the API server", b.options.rest, b.options.classes)),
		bench.Info("rest_lease_writes", float64(leases)/minutes, "1/min", "renewals of the lease"),
		bench.Info("rest_reads", float64(reads)/minutes, "1/min", fmt.Sprintf("and %d watches begun anew; %s", watches, requestsText(by, 1))),
		bench.Info("requests_per_class", perClass, "", "by the leader from the creation of the classes until it rests: "+requestsText(work.ByRequest, b.options.classes)),
		bench.Info("memory_peak_gated", b.memory, "MiB", "highest VmHWM of any manager so far"),
	}, nil
}

// requestsText lists requests by their number per class, the most frequent first.
func requestsText(by map[string]int, per int) string {
	what := slices.SortedFunc(maps.Keys(by), func(x, y string) int {
		if by[x] != by[y] {
			return by[y] - by[x]
		}
		return strings.Compare(x, y)
	})
	parts := make([]string, len(what))
	for i, w := range what {
		parts[i] = fmt.Sprintf("%.4g %s", float64(by[w])/float64(per), w)
	}
	return strings.Join(parts, ", ")
}

// calm waits until no manager has written anything for a while.
func (s *crmStack) calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, calmPatience)
	defer cancel()
	began := time.Now()
	return system.Poll(ctx, "the managers rest", func(context.Context) (bool, error) {
		last := began
		for _, m := range s.managers {
			if at := m.gate.Counts().LastWrite; at.After(last) {
				last = at
			}
		}
		if quiet := time.Since(last); quiet < calmFor {
			return false, fmt.Errorf("the last write was %s ago", quiet.Round(time.Millisecond))
		}
		return true, nil
	})
}

// stillness waits and says how long there is to go.
func stillness(ctx context.Context, d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	until := time.Now().Add(d)
	for {
		select {
		case <-end.C:
			return nil
		case <-ticker.C:
			say("  %s to go", time.Until(until).Round(time.Second))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// measureLeaderKill kills the leader in the midst of its work.
func (b *crmBench) measureLeaderKill(ctx context.Context) ([]bench.Result, error) {
	s, err := b.newStack(ctx, "leader-kill")
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // see above
	if err := s.startReplicas(ctx); err != nil {
		return nil, err
	}
	kinds, err := s.childKinds()
	if err != nil {
		return nil, err
	}
	history, err := s.record(ctx, kinds)
	if err != nil {
		return nil, err
	}
	defer history.end()
	leader, standby, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	leader.gate.Reset()
	standby.gate.Reset()
	all, err := s.follow(ctx, &v1alpha1.ClassRuntimeList{}, b.options.classes, available)
	if err != nil {
		return nil, err
	}
	defer all.end()
	created := make(chan error, 1)
	go func() { created <- s.createClasses(ctx, 0, b.options.classes) }()
	// A third of what it will write in all is written: some classes run, some are begun, some are not created yet.
	err = system.Poll(ctx, "the leader is at work", func(context.Context) (bool, error) {
		return leader.gate.Counts().Writes >= b.options.classes*writesPerClass/3, nil
	})
	if err != nil {
		return nil, errors.Join(err, <-created)
	}
	leader.kill()
	killed := time.Now()
	before := leader.gate.Counts().Writes
	if err := <-created; err != nil {
		return nil, err
	}
	// What is measured here is written by the standby alone; it has written nothing but by way of the lease.
	takeover, err := firstWrite(ctx, standby.gate, killed)
	if err != nil {
		return nil, err
	}
	at, err := all.wait(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.calm(ctx); err != nil {
		return nil, err
	}
	children, err := s.children(ctx, kinds)
	if err != nil {
		return nil, err
	}
	wrong := compareShapes(classNames(0, b.options.classes), children)
	recreated := history.recreated()
	rewritten := 0
	for _, c := range children {
		if c.generation > 1 {
			rewritten++
		}
	}
	tellProblems(append(wrong, recreated...))
	return []bench.Result{
		bench.AtMost("leader_kill_takeover", takeover.Seconds(), takeoverBound, "s", fmt.Sprintf("from SIGKILL of the leader, after %d writes for %d classes, until the first write of the standby other than the lease", before, b.options.classes)),
		bench.Exactly("leader_kill_wrong_children", float64(len(wrong)), 0, "", fmt.Sprintf("classes that have not exactly the children of the others, of %d children in all", len(children))),
		bench.Exactly("leader_kill_recreated", float64(len(recreated)), 0, "", "children that were deleted or made anew, seen by a watch from the beginning on"),
		bench.Exactly("leader_kill_rewritten", float64(rewritten), 0, "", "children whose spec was written again, by their generation"),
		bench.Info("leader_kill_available", at.Sub(killed).Seconds(), "s", "from SIGKILL until all classes are available"),
	}, nil
}

// writesPerClass is about what a manager writes for one class: the finalizer, the children, the status and some events.
const writesPerClass = 9

// firstWrite waits for the first write since Reset.
func firstWrite(ctx context.Context, g *gate.Gate, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, calmPatience)
	defer cancel()
	var took time.Duration
	err := system.Poll(ctx, "the standby continues", func(context.Context) (bool, error) {
		first := g.Counts().FirstWrite
		took = first.Sub(since)
		return !first.IsZero(), nil
	})
	return took, err
}

func classNames(first, last int) []string {
	var names []string
	for i := first; i < last; i++ {
		names = append(names, className(i))
	}
	return names
}

// tellProblems prints the first of what is wrong.
func tellProblems(problems []string) {
	for _, p := range problems[:min(len(problems), 10)] {
		say("  wrong: %s", p)
	}
}
