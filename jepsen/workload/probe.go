package workload

import (
	"bytes"
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Probe looks at every node again and again: whether it answers, is ready, leads, and what
// its process uses. A new leader is an event of the history.
type Probe struct {
	// Every is the time between two looks at a node; default 500 ms.
	Every time.Duration
}

// Name implements Workload.
func (Probe) Name() string { return history.Probe }

// Run implements Workload.
func (w Probe) Run(ctx context.Context, env *Env) error {
	every := w.Every
	if every == 0 {
		every = 500 * time.Millisecond
	}
	p := env.process(w.Name(), 0)
	lookers := map[string]*looker{}
	for {
		// One that hangs must not hide the others.
		var all sync.WaitGroup
		for _, node := range env.Nodes() {
			l := lookers[node]
			if l == nil {
				l = &looker{p: p.twin(), node: node}
				lookers[node] = l
			}
			all.Go(func() { l.look(ctx) })
		}
		all.Wait()
		if !pause(ctx, every) {
			return nil
		}
	}
}

// looker looks at one node.
type looker struct {
	p    *process
	node string
	term uint64
}

// look asks for readiness and for the metrics.
func (l *looker) look(ctx context.Context) {
	// The end of the run must not look like the end of the node.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.p.env.options.Timeout)
	defer cancel()
	done := l.p.env.Recorder().Call(history.Operation{Process: l.p.id, Workload: l.p.workload, Kind: history.Look, Node: l.node})
	ready := l.p.env.send(ctx, call{node: l.node, method: http.MethodGet, path: "/readyz"})
	status := history.Status{Reached: ready.Status != 0, Ready: ready.Status == http.StatusOK}
	last := ready
	if status.Reached {
		var body bytes.Buffer
		m := l.p.env.send(ctx, call{
			node: l.node, kind: history.Read, method: http.MethodGet, path: "/metrics",
			value: func(raw []byte) (string, error) { body.Write(raw); return "", nil },
		})
		if m.outcome == history.OK {
			readMetrics(&status, body.String())
			last = m
		}
	}
	done(func(op *history.Operation) {
		op.Outcome, op.Output = history.Failed, status
		if status.Reached {
			op.Outcome = history.OK
		}
		op.ServedBy, op.Leader, op.Index, op.Term = last.servedBy, last.leader, last.index, last.term
		if last.err != nil {
			op.Error = last.err.Error()
		}
	})
	if status.Leads && last.term > l.term {
		l.term = last.term
		l.p.env.Recorder().Event(history.Event{Kind: history.Leader, Name: "leader", Nodes: []string{l.node}, Term: last.term})
	}
}

// readMetrics takes what a status has from the text format of Prometheus.
func readMetrics(s *history.Status, text string) {
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(rest, 64)
		if err != nil || math.IsNaN(v) || v < 0 {
			continue
		}
		base, _, _ := strings.Cut(name, "{")
		switch base {
		case "oaas_pm_raftstore_leader_ready":
			s.Leads = v == 1
		case "oaas_pm_dispatch_pending_units":
			s.Pending += int(v)
		case "go_goroutines":
			s.Goroutines = int(v)
		case "process_open_fds":
			s.FileDescriptors = int(v)
		case "process_resident_memory_bytes":
			s.ResidentBytes = uint64(v)
		case "go_memstats_heap_inuse_bytes":
			s.HeapBytes = uint64(v)
		}
	}
}
