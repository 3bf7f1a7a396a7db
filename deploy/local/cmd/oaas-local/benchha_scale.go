package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// scaleLoaders is the number of clients that load the deployments.
	scaleLoaders = 64
	// scaleWriters write continuously while a snapshot is taken.
	scaleWriters = 4
	// quiet is the length of the comparison without a snapshot.
	quiet = 20 * time.Second
	// snapshotsPerNode is how many snapshots of each node are measured.
	snapshotsPerNode = 2
	mebibyte         = 1 << 20
	// aftermath is how long after a snapshot what a node does about it is counted
	// as a part of it: it shortens the log and reads the snapshot back.
	aftermath = 500 * time.Millisecond
	// snapshotLook is how often nodes look whether a snapshot is due, more often
	// than they do by default: how soon one can be provoked depends on it.
	snapshotLook     = 5 * time.Second
	defaultThreshold = 8192
)

// measureScale loads many deployments and then looks at snapshots, restart and memory.
func measureScale(ctx context.Context, s *haStack, options *haOptions) ([]bench.Result, error) {
	for _, pm := range s.system.PMs {
		if err := tune(ctx, pm, snapshotLook, defaultThreshold); err != nil {
			return nil, err
		}
	}
	rate, err := s.fill(ctx, options.deployments)
	if err != nil {
		return nil, err
	}
	results := []bench.Result{bench.Info("scale_load_rate", rate, "1/s", fmt.Sprintf("%d deployments by %d clients through all nodes, each delivered to a cluster and reported as running", options.deployments, scaleLoaders))}
	began := time.Now()
	if err := s.settle(ctx, options.deployments); err != nil {
		return results, err
	}
	results = append(results, bench.Info("scale_settled", time.Since(began).Seconds(), "s", "from the last answer until the cluster had confirmed every unit"))
	memory := map[string]float64{}
	s.remember(memory)
	more, err := s.measureSnapshots(ctx)
	results = append(results, more...)
	if err != nil {
		return results, err
	}
	s.remember(memory)
	restarted, err := s.measureRestart(ctx)
	if err != nil {
		return results, err
	}
	results = append(results, restarted)
	s.remember(memory)
	worst, peaks := 0.0, []string{}
	for _, pm := range s.system.PMs {
		worst = max(worst, memory[pm.Name])
		peaks = append(peaks, fmt.Sprintf("%s %.0f", pm.Name, memory[pm.Name]))
	}
	return append(results, bench.AtMost("rss_max", worst, 1536, "MiB", "highest VmHWM of any pmd through load, snapshots and restart ("+strings.Join(peaks, ", ")+")")), nil
}

// fill posts the deployments and gives the rate.
func (s *haStack) fill(ctx context.Context, count int) (perSecond float64, err error) {
	return postAll(ctx, s.system.PMs, count, func(n int) []byte { return deploymentBody(fmt.Sprintf("scale-%06d", n)) })
}

// postAll posts deployments 1 to count through all nodes, by many clients at a time, and gives the rate.
func postAll(ctx context.Context, nodes []*system.PM, count int, body func(n int) []byte) (perSecond float64, err error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: scaleLoaders}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range scaleLoaders {
		node := &system.Client{Base: nodes[i%len(nodes)].URL(), HTTP: client}
		group.Go(func() error {
			for n := int(next.Add(1)); n <= count; n = int(next.Add(1)) {
				if _, err := node.Do(ctx, http.MethodPost, "/api/v1/deployments", body(n), nil); err != nil {
					return err
				}
				if n%10_000 == 0 {
					fmt.Fprintf(os.Stderr, "  %d deployments after %s\n", n, time.Since(began).Round(time.Second))
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(count) / time.Since(began).Seconds(), err
}

// settle waits until the cluster has every unit and the state says so.
func (s *haStack) settle(ctx context.Context, count int) error {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return err
	}
	return system.Poll(ctx, "every unit is confirmed", func(ctx context.Context) (bool, error) {
		pending, err := metricOf(ctx, leader, "oaas_pm_dispatch_pending_units")
		if err != nil {
			return false, err
		}
		if have := s.agent.Objects(); have < count || pending > 0 {
			return false, fmt.Errorf("the cluster has %d units, %g are pending", have, pending)
		}
		return true, nil
	})
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// measureSnapshots writes continuously while each node takes snapshots. A snapshot
// blocks writes when none is acknowledged for longer than otherwise, whatever the
// reason: locks, processors or the disk. How long single writes take tells how much
// it slows them.
func (s *haStack) measureSnapshots(ctx context.Context) ([]bench.Result, error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return nil, err
	}
	w := s.startWrites(ctx)
	defer w.end()
	if !sleepFor(ctx, quiet) {
		return nil, context.Cause(ctx)
	}
	var spans []span
	for _, pm := range s.system.PMs {
		name := "follower"
		if pm == leader {
			name = "leader"
		}
		for range snapshotsPerNode {
			from, to, err := s.provoke(ctx, pm)
			if err != nil {
				return nil, err
			}
			spans = append(spans, span{from, to.Add(aftermath)})
			fmt.Fprintf(os.Stderr, "  snapshot of the %s %s took %s\n", name, pm.Name, to.Sub(from).Round(time.Millisecond))
		}
	}
	return snapshotResults(w.take(), spans), w.err()
}

func snapshotResults(all []timedWrite, spans []span) []bench.Result {
	var lengths []time.Duration
	for _, s := range spans {
		lengths = append(lengths, s.to.Sub(s.from)-aftermath)
	}
	during, without := split(all, spans)
	gaps, gapsWithout := pauses(all, spans)
	ms := func(all []time.Duration, q float64) float64 { return milliseconds(bench.Quantile(all, q)) }
	longest, usual := ms(gaps, 1), ms(gapsWithout, 1)
	slow, slowUsual := ms(during, 0.99), ms(without, 0.99)
	times := func(all []time.Duration) string {
		return fmt.Sprintf("%d writes, p50 %.1f ms, slowest %.1f ms", len(all), ms(all, 0.5), ms(all, 1))
	}
	return []bench.Result{
		bench.AtMost("snapshot_write_block_max", max(longest-usual, 0), 50, "ms",
			fmt.Sprintf("longest time in which no write was acknowledged during %d snapshots (%d of each node, %s at most; %.1f ms), less the longest without one (%.1f ms); %d writers, one write after the other, through all nodes",
				len(spans), snapshotsPerNode, bench.Quantile(lengths, 1).Round(time.Millisecond), longest, usual, scaleWriters)),
		bench.AtMost("snapshot_write_delay_p99", max(slow-slowUsual, 0), 50, "ms", "p99 of the writes during snapshots less p99 of those without"),
		bench.Info("write_during_snapshot_p99", slow, "ms", times(during)),
		bench.Info("write_without_snapshot_p99", slowUsual, "ms", times(without)),
	}
}

// provoke lets a node take a snapshot and gives the time that it took, from the
// appearance of its directory to its final name.
func (s *haStack) provoke(ctx context.Context, pm *system.PM) (from, to time.Time, err error) {
	old, err := snapshotsOf(pm)
	if err != nil {
		return from, to, err
	}
	if err := tune(ctx, pm, snapshotLook, 1); err != nil {
		return from, to, err
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for to.IsZero() {
		select {
		case <-ctx.Done():
			return from, to, context.Cause(ctx)
		case <-ticker.C:
		}
		now, err := snapshotsOf(pm)
		if err != nil {
			return from, to, err
		}
		for _, name := range now {
			switch {
			case slices.Contains(old, name):
			case strings.HasSuffix(name, ".tmp"):
				if from.IsZero() {
					from = time.Now()
				}
			case !from.IsZero():
				to = time.Now()
			default: // it was written between two looks
				from, to = time.Now().Add(-time.Millisecond), time.Now()
			}
		}
	}
	return from, to, tune(ctx, pm, snapshotLook, defaultThreshold)
}

func tune(ctx context.Context, pm *system.PM, interval time.Duration, threshold uint64) error {
	_, err := pm.Client().Do(ctx, http.MethodPatch, "/api/v1/operator/raft/tuning", fmt.Appendf(nil, `{"snapshot_interval":%q,"snapshot_threshold":%d}`, interval, threshold), nil)
	return err
}

func snapshotsOf(pm *system.PM) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(pm.DataDir, "raft", "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// timedWrite is one write.
type timedWrite struct{ began, ended time.Time }

// writes are clients that write one deployment after the other.
type writes struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	client *http.Client

	mu     sync.Mutex
	all    []timedWrite
	failed error
}

func (s *haStack) startWrites(ctx context.Context) *writes {
	ctx, stop := context.WithCancel(ctx)
	w := &writes{stop: stop, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: scaleWriters}}}
	for i := range scaleWriters {
		node := &system.Client{Base: s.system.PMs[i%len(s.system.PMs)].URL(), HTTP: w.client}
		w.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				_, err := node.Do(ctx, http.MethodPost, "/api/v1/deployments", deploymentBody(fmt.Sprintf("snap-%d-%d", i, n%100)), nil)
				if ctx.Err() != nil {
					return
				}
				w.mu.Lock()
				w.all = append(w.all, timedWrite{began, time.Now()})
				w.failed = errors.Join(w.failed, err)
				w.mu.Unlock()
			}
		})
	}
	return w
}

func (w *writes) end() {
	w.stop()
	w.done.Wait()
	w.client.CloseIdleConnections()
}

func (w *writes) take() []timedWrite {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

func (w *writes) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// split parts how long the writes took that overlap one of the spans from those
// that do not.
func split(all []timedWrite, spans []span) (in, out []time.Duration) {
	for _, t := range all {
		if overlaps(t.began, t.ended, spans) {
			in = append(in, t.ended.Sub(t.began))
		} else {
			out = append(out, t.ended.Sub(t.began))
		}
	}
	return in, out
}

// pauses gives the times between one acknowledgement and the next, those that
// overlap one of the spans apart from the others.
func pauses(all []timedWrite, spans []span) (in, out []time.Duration) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b timedWrite) int { return a.ended.Compare(b.ended) })
	for i := 1; i < len(all); i++ {
		if last, next := all[i-1].ended, all[i].ended; overlaps(last, next, spans) {
			in = append(in, next.Sub(last))
		} else {
			out = append(out, next.Sub(last))
		}
	}
	return in, out
}

func overlaps(from, to time.Time, spans []span) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return to.After(s.from) && from.Before(s.to) })
}

// measureRestart kills a follower that has everything and starts it again.
func (s *haStack) measureRestart(ctx context.Context) (bench.Result, error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return bench.Result{}, err
	}
	follower := s.system.Follower(leader)
	follower.Kill()
	began := time.Now()
	if err := follower.Start(); err != nil {
		return bench.Result{}, err
	}
	if err := follower.WaitReady(ctx); err != nil {
		return bench.Result{}, err
	}
	return bench.AtMost("restart_ready", time.Since(began).Seconds(), 10, "s", "a follower after SIGKILL, from its start until /readyz is ok, which takes a linearizable read"), nil
}

// remember keeps the highest memory of every node, in MiB.
func (s *haStack) remember(memory map[string]float64) {
	for _, pm := range s.system.PMs {
		if peak, err := peakMemory(pm.PID()); err == nil {
			memory[pm.Name] = max(memory[pm.Name], peak)
		}
	}
}

// peakMemory gives the most memory that a process ever had resident, in MiB.
func peakMemory(pid int) (float64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1024 / mebibyte, err
		}
	}
	return 0, errors.New("the system does not tell")
}

// metricsOf gives a node's counters and gauges by name with labels.
func metricsOf(ctx context.Context, pm *system.PM) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, pm.URL()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := pm.Client().HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end below
	out := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text() // labels may have spaces in them
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
				out[line[:at]] = v
			}
		}
	}
	return out, lines.Err()
}

// metricOf adds up a metric over its labels.
func metricOf(ctx context.Context, pm *system.PM, name string) (sum float64, err error) {
	all, err := metricsOf(ctx, pm)
	for metric, value := range all {
		if base, _, _ := strings.Cut(metric, "{"); base == name {
			sum += value
		}
	}
	return sum, err
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
