package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"oaas.io/control-plane/jepsen/cluster"
)

// pick chooses the nodes that a fault is about.
type pick func(context.Context, *Target, *rand.Rand) ([]*cluster.Node, error)

func theLeader(ctx context.Context, t *Target, _ *rand.Rand) ([]*cluster.Node, error) {
	leader, err := t.leader(ctx)
	return []*cluster.Node{leader}, err
}

func aFollower(ctx context.Context, t *Target, random *rand.Rand) ([]*cluster.Node, error) {
	follower, err := t.follower(ctx, random)
	return []*cluster.Node{follower}, err
}

func anyNode(_ context.Context, t *Target, random *rand.Rand) ([]*cluster.Node, error) {
	return t.some(random, 1), nil
}

func aMajority(_ context.Context, t *Target, random *rand.Rand) ([]*cluster.Node, error) {
	return t.some(random, t.majority()), nil
}

func allNodes(_ context.Context, t *Target, _ *rand.Rand) ([]*cluster.Node, error) {
	return t.Cluster.Nodes(), nil
}

// processes are the nemeses of processes: killed, stopped, paused.
func processes() []Nemesis {
	own := []Part{Nodes}
	return []Nemesis{
		&kind{name: "kill-leader", about: "The leader is killed (SIGKILL) and comes back.", parts: own, choose: killingLeader},
		&kind{name: "kill-random", about: "Some node is killed and comes back.", parts: own, choose: killing(anyNode)},
		&kind{name: "kill-all", about: "All nodes are killed at once and come back.", parts: own, choose: killing(allNodes)},
		&kind{name: "stop-leader", about: "The leader is asked to end (SIGTERM), hands over, and comes back.", parts: own, choose: stopping},
		&kind{name: "crash-loop", about: "Random nodes are killed and started again, without a pause.", parts: own, choose: crashing},
		&kind{name: "pause-leader", about: "The leader stands still (SIGSTOP) and goes on later as if nothing had been.", parts: own, choose: pausing(theLeader)},
		&kind{name: "pause-follower", about: "A node that does not lead stands still.", parts: own, choose: pausing(aFollower)},
		&kind{name: "pause-majority", about: "Most nodes stand still, the leader perhaps among them.", parts: own, choose: pausing(aMajority)},
	}
}

type chooser = func(context.Context, *Target, *rand.Rand) (*Fault, error)

func killing(of pick) chooser {
	return func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		nodes, err := of(ctx, t, random)
		if err != nil {
			return nil, err
		}
		return &Fault{
			Nodes: names(nodes), Text: "killed",
			Begin: func(context.Context) error { return each(nodes, (*cluster.Node).Kill) },
			End:   func(ctx context.Context) error { return startAll(ctx, nodes) },
		}, nil
	}
}

// WithSuccessors is the text of a kill-leader that met a cluster in which all others had a vote and were in health: only then can
// one of them take over at once.
const WithSuccessors = "killed, all others in health"

func killingLeader(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	whole, _ := t.wholeNow(ctx) // why not does not matter here
	fault, err := killing(theLeader)(ctx, t, random)
	if err == nil && whole {
		fault.Text = WithSuccessors
	}
	return fault, err
}

func stopping(ctx context.Context, t *Target, _ *rand.Rand) (*Fault, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	return &Fault{
		Nodes: []string{leader.Name()}, Text: "SIGTERM",
		Begin: leader.Stop,
		End:   func(ctx context.Context) error { return startAll(ctx, []*cluster.Node{leader}) },
	}, nil
}

func pausing(of pick) chooser {
	return func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		nodes, err := of(ctx, t, random)
		if err != nil {
			return nil, err
		}
		return &Fault{
			Nodes: names(nodes), Text: "paused",
			Begin: func(context.Context) error { return each(nodes, (*cluster.Node).Pause) },
			End: func(ctx context.Context) error {
				// One that has ended meanwhile cannot go on, and is started below.
				_ = each(nodes, (*cluster.Node).Resume)
				return startAll(ctx, nodes)
			},
		}, nil
	}
}

// crashing kills one node after the other. Each has a moment to get somewhere: the time from the start of the process to its first
// writes is where a crash finds most.
func crashing(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	nodes := t.Cluster.Nodes()
	return &Fault{
		Nodes: names(nodes), Text: "one after the other",
		Begin: func(context.Context) error { return nil },
		During: func(ctx context.Context) error {
			for pause(ctx, between(random, 50*time.Millisecond, 1500*time.Millisecond)) {
				node := nodes[random.IntN(len(nodes))]
				if err := node.Kill(); err != nil {
					return err
				}
				if err := node.Start(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		End: func(ctx context.Context) error { return startAll(ctx, nodes) },
	}, nil
}

// pause waits, and reports whether the context has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// each does something to all nodes at the same time.
func each(nodes []*cluster.Node, do func(*cluster.Node) error) error {
	var group errgroup.Group
	for _, n := range nodes {
		group.Go(func() error {
			if err := do(n); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// startAll starts those nodes that do not run.
func startAll(ctx context.Context, nodes []*cluster.Node) error {
	var errs []error
	for _, n := range nodes {
		if n.Running() {
			continue
		}
		if err := n.Start(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		}
	}
	return errors.Join(errs...)
}
