package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
)

const (
	// hostileUnits is how many units each misbehaving cluster has to lie about.
	hostileUnits = 20
	// withoutUsers is for how long nobody posts while the misbehaving clusters go on.
	withoutUsers = 30 * time.Second
	// hostileCommits is how many commands per second they may cause in that time, all together, and loadedCommits how many there may
	// be for each deployment while users post.
	hostileCommits = 20
	loadedCommits  = 2
	// hostileMemory is what they may make any node take before there are users, in MiB.
	hostileMemory = 256
)

// measureHostile has one cluster of each misbehaviour among the others.
func measureHostile(ctx context.Context, s *dispatchStack) ([]bench.Result, error) {
	count := hostileUnits * len(s.hostile)
	if _, err := postAll(ctx, s.system.PMs, count, func(n int) []byte { return body(fmt.Sprintf("bait-%04d", n), s.hostile, n, 1) }); err != nil {
		return nil, err
	}
	// They have all that they are allowed at once behind them.
	if _, err := s.arrivals(ctx, s.pour(ctx, "warm", s.agents, warmUp)); err != nil {
		return nil, err
	}
	quiet, err := s.commits(ctx, func() error {
		if !sleepFor(ctx, withoutUsers) {
			return context.Cause(ctx)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	before, _, err := s.memory()
	if err != nil {
		return nil, err
	}
	s.receipts.forget()
	var posts []post
	loaded, err := s.commits(ctx, func() error {
		posts = s.pour(ctx, "hostile", s.agents, s.options.duration)
		return nil
	})
	if err != nil {
		return nil, err
	}
	p, err := s.arrivals(ctx, posts)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, b := range agent.Misbehaviours() {
		names = append(names, string(b))
	}
	results := p.results("hostile", fmt.Sprintf("as above, while %d of the clusters misbehave, one in each way (%s), with %d units each and their share of the load; of the other clusters only", len(s.hostile), strings.Join(names, ", "), hostileUnits))
	memory, peaks, err := s.memory()
	if err != nil {
		return results, err
	}
	unwell, err := s.taken(ctx)
	return append(results,
		bench.AtMost("hostile_commits_without_users", quiet.commits, hostileCommits, "1/s", fmt.Sprintf("commands that the log took within %s in which nobody posted; the leader used %.0f %% of a processor", withoutUsers, 100*quiet.processors)),
		bench.AtMost("hostile_commits_per_deployment", loaded.commits/float64(s.options.rate), loadedCommits, "", fmt.Sprintf("commands under load, reports included; the leader used %.0f %% of a processor", 100*loaded.processors)),
		bench.AtMost("hostile_rss_without_users", before, hostileMemory, "MiB", fmt.Sprintf("highest VmHWM of any pmd when the clusters had misbehaved for %s", withoutUsers)),
		bench.Info("hostile_rss_max", memory, "MiB", fmt.Sprintf("the same at the end, with the load (%s); compare dispatch_rss_max, where nobody misbehaves", peaks)),
		bench.Info("hostile_shown", float64(len(unwell)), "", "misbehaving clusters that are not shown as healthy at the end: "+strings.Join(unwell, ", ")),
	), err
}

// memory gives the highest VmHWM of any node in MiB, and that of each.
func (s *dispatchStack) memory() (highest float64, each string, err error) {
	var peaks []string
	for _, pm := range s.system.PMs {
		peak, err := peakMemory(pm.PID())
		if err != nil {
			return 0, "", err
		}
		highest = max(highest, peak)
		peaks = append(peaks, fmt.Sprintf("%s %.0f", pm.Name, peak))
	}
	return highest, strings.Join(peaks, ", "), nil
}

// effort is what a time cost the leader.
type effort struct{ commits, processors float64 }

// commits does something and gives what the log took meanwhile, per second.
func (s *dispatchStack) commits(ctx context.Context, do func() error) (effort, error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return effort{}, err
	}
	look := func() (index, processor float64, err error) {
		if index, err = metricOf(ctx, leader, "oaas_pm_raftstore_applied_index"); err != nil {
			return 0, 0, err
		}
		processor, err = usedBy(leader.PID())
		return index, processor, err
	}
	index, processor, err := look()
	if err != nil {
		return effort{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return effort{}, err
	}
	seconds := time.Since(began).Seconds()
	indexAfter, processorAfter, err := look()
	return effort{(indexAfter - index) / seconds, (processorAfter - processor) / seconds}, err
}

// usedBy gives what a process has used of the processors, in seconds.
func usedBy(pid int) (float64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, used, ok := processorTimeOf(string(data))
	if !ok {
		return 0, fmt.Errorf("the system does not tell what process %d has used", pid)
	}
	return used.Seconds(), nil
}

// taken names the misbehaving clusters that are not taken for healthy.
func (s *dispatchStack) taken(ctx context.Context) (unwell []string, err error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return nil, err
	}
	envs, err := leader.Client().Envs(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range envs {
		if strings.HasPrefix(e.Name, "bad-") && e.Health.Status != "Healthy" {
			unwell = append(unwell, e.Name)
		}
	}
	return unwell, nil
}
