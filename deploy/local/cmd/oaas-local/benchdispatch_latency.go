package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// warmUp is for how long the load runs before it counts.
	warmUp = 3 * time.Second
	// postDeadline is the client's.
	postDeadline = 10 * time.Second
	// arrivalDeadline is how long after the load its last deployment may arrive.
	arrivalDeadline = time.Minute
	// acceptedBound is the promise, in milliseconds.
	acceptedBound = 250
)

// post is one deployment that was posted.
type post struct {
	key            string
	in             *agent.Agent
	due, answered  time.Time
	err            error
	sent, received time.Time
}

// pour posts deployments at a rate, each at its time whether or not earlier ones were answered, through all nodes and into
// these clusters in turn. It returns when the last is answered.
func (s *dispatchStack) pour(ctx context.Context, name string, into []*agent.Agent, duration time.Duration) []post {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * s.options.rate}}
	defer client.CloseIdleConnections()
	all := make([]post, int(duration.Seconds()*float64(s.options.rate)))
	var group sync.WaitGroup
	began := time.Now()
	for i := range all {
		p := &all[i]
		p.key, p.in = fmt.Sprintf("%s-%06d", name, i), into[i%len(into)]
		p.due = began.Add(time.Duration(float64(i) / float64(s.options.rate) * float64(time.Second)))
		if !sleepFor(ctx, time.Until(p.due)) {
			break
		}
		node := &system.Client{Base: s.system.PMs[i%len(s.system.PMs)].URL(), HTTP: client}
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, postDeadline)
			defer cancel()
			p.sent = time.Now()
			_, p.err = node.Do(ctx, http.MethodPost, "/api/v1/deployments", body(p.key, into, i, 1), nil)
			p.answered = time.Now()
		})
	}
	group.Wait()
	return all
}

// poured is what came of a load.
type poured struct {
	// accepted is from the answer until the cluster was called, posted from the time at which the post was due.
	accepted, posted []time.Duration
	failed, missing  int
}

// arrivals waits until what was accepted for faithful clusters has arrived.
func (s *dispatchStack) arrivals(ctx context.Context, posts []post) (poured, error) {
	var out poured
	ctx, cancel := context.WithTimeout(ctx, arrivalDeadline)
	defer cancel()
	faithful := map[*agent.Agent]bool{}
	for _, a := range s.faithful {
		faithful[a] = true
	}
	for i := range posts {
		p := &posts[i]
		if p.err != nil {
			out.failed++
			if out.failed <= 10 {
				fmt.Fprintln(os.Stderr, "  failed:", p.err)
			}
			continue
		}
		if !faithful[p.in] {
			continue
		}
		if soon(ctx, "it arrives", func() bool { p.received = s.receipts.at(p.key, 1); return !p.received.IsZero() }) != nil {
			out.missing++
			continue
		}
		// It may arrive before the answer does.
		out.accepted = append(out.accepted, max(p.received.Sub(p.answered), 0))
		out.posted = append(out.posted, p.received.Sub(p.due))
	}
	if len(out.accepted) == 0 {
		return out, fmt.Errorf("none of %d deployments arrived", len(posts))
	}
	return out, nil
}

// results names the figures of a load.
func (p *poured) results(name, note string) []bench.Result {
	ms := func(all []time.Duration, q float64) float64 { return milliseconds(bench.Quantile(all, q)) }
	return []bench.Result{
		bench.AtMost(name+"_accepted_to_agent_p99", ms(p.accepted, 0.99), acceptedBound, "ms", note),
		bench.Info(name+"_accepted_to_agent_p50", ms(p.accepted, 0.5), "ms", fmt.Sprintf("slowest %.1f ms", ms(p.accepted, 1))),
		bench.Info(name+"_posted_to_agent_p99", ms(p.posted, 0.99), "ms", fmt.Sprintf("from the time at which the POST was due until the agent received Deploy; p50 %.1f ms, slowest %.1f ms", ms(p.posted, 0.5), ms(p.posted, 1))),
		bench.Exactly(name+"_failed", float64(p.failed), 0, "", "posts that were not answered with 200"),
		bench.Exactly(name+"_missing", float64(p.missing), 0, "", fmt.Sprintf("accepted, but not received within %s", arrivalDeadline)),
	}
}

// measureLatency posts at a rate that is kept up.
func measureLatency(ctx context.Context, s *dispatchStack) ([]bench.Result, error) {
	if _, err := s.arrivals(ctx, s.pour(ctx, "warm", s.agents, warmUp)); err != nil {
		return nil, err
	}
	s.receipts.forget()
	posts := s.pour(ctx, "latency", s.agents, s.options.duration)
	p, err := s.arrivals(ctx, posts)
	if err != nil {
		return nil, err
	}
	results := p.results("dispatch", fmt.Sprintf("%d deployments, %d/s for %s in an open loop through %d nodes into %d clusters; from the answer to the POST until the agent received Deploy, 0 where it was earlier",
		len(posts), s.options.rate, s.options.duration, len(s.system.PMs), len(s.agents)))
	began := time.Now()
	if err := s.settled(ctx); err != nil {
		return results, err
	}
	wishes, calls := s.receipts.received()
	memory, peaks, err := s.memory()
	return append(results,
		bench.Exactly("dispatch_repeated", float64(calls-wishes), 0, "", "calls of Deploy beyond one for each wish"),
		bench.Info("dispatch_settled", time.Since(began).Seconds(), "s", "from the last arrival until the state has every confirmation"),
		bench.Info("dispatch_rss_max", memory, "MiB", "highest VmHWM of any pmd ("+peaks+")"),
	), err
}
