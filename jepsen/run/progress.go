package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
)

// progress prints how a run goes: a line every few seconds, and one for each fault.
type progress struct {
	stack  *stack
	result *Result
	began  time.Duration
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	broken map[uint64]string
}

func startProgress(ctx context.Context, s *stack, r *Result) *progress {
	ctx, cancel := context.WithCancel(ctx)
	p := &progress{stack: s, result: r, began: s.recorder.Now(), cancel: cancel, broken: map[uint64]string{}}
	p.group.Go(func() { p.follow(ctx) })
	return p
}

func (p *progress) end() {
	p.cancel()
	p.group.Wait()
}

func (p *progress) follow(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	seen := len(p.stack.recorder.Since(0))
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		news := p.stack.recorder.Since(seen)
		seen += len(news)
		p.result.say("%s  %5.0f ops/s  %s%s", p.clock(), float64(acknowledged(news))/progressEvery.Seconds(), p.leader(ctx), p.faults())
	}
}

// acknowledged counts what users asked and were answered. What is still under way is not counted later: this is for the eye.
func acknowledged(ops []history.Operation) (n int) {
	for i := range ops {
		if isUse(&ops[i]) && ops[i].Outcome == history.OK {
			n++
		}
	}
	return n
}

func (p *progress) clock() string {
	since := (p.stack.recorder.Now() - p.began).Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(since.Minutes()), int(since.Seconds())%60)
}

func (p *progress) leader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, progressEvery/2)
	defer cancel()
	name, term, err := p.stack.cluster.Leader(ctx)
	if err != nil {
		return "no leader"
	}
	return fmt.Sprintf("leader %s (term %d)", name, term)
}

func (p *progress) faults() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.broken) == 0 {
		return ""
	}
	return "  broken: " + strings.Join(slices.Sorted(maps.Values(p.broken)), " + ")
}

// fault is told of each fault when it begins and when it has ended.
func (p *progress) fault(d nemesis.Done, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !ended:
		p.broken[d.Seed] = d.Nemesis
		p.result.say("%s  + %s", p.clock(), d)
	default:
		delete(p.broken, d.Seed)
		p.result.say("%s  - %s", p.clock(), d)
	}
}
