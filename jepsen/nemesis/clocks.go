package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"oaas.io/control-plane/jepsen/clock"
	"oaas.io/control-plane/jepsen/cluster"
)

// driftEvery is how often a clock that drifts is moved on.
const driftEvery = 100 * time.Millisecond

// clocks are the wall clocks that were taken over, by the process that they are of.
type clocks struct {
	mu   sync.Mutex
	open map[int]*clock.Clock
}

// set moves the clock of a node's process. A node that does not run has none to move: it starts with the right time.
func (c *clocks) set(n *cluster.Node, offset time.Duration) error {
	pid := n.Pid()
	if pid == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.open[pid]
	if have == nil {
		opened, err := clock.Open(pid)
		if err != nil {
			return gone(n, err)
		}
		if c.open == nil {
			c.open = map[int]*clock.Clock{}
		}
		have, c.open[pid] = opened, opened
	}
	return gone(n, have.Set(offset))
}

// gone forgives that the process has ended meanwhile.
func gone(n *cluster.Node, err error) error {
	if err == nil || errors.Is(err, clock.ErrGone) {
		return nil
	}
	return fmt.Errorf("clock of %s: %w", n.Name(), err)
}

// right gives all clocks back.
func (c *clocks) right() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for pid, opened := range c.open {
		if err := opened.Close(); err != nil {
			errs = append(errs, err)
		}
		delete(c.open, pid)
	}
	return errors.Join(errs...)
}

// times are the nemeses of wall clocks.
func times() []Nemesis {
	available := func(*Target) error { return clock.Available() }
	return []Nemesis{
		&kind{name: "clock-forward", about: "A node's wall clock jumps ahead, by seconds to a day.", parts: []Part{Clocks}, available: available, choose: jumping(1)},
		&kind{name: "clock-back", about: "A node's wall clock jumps back.", parts: []Part{Clocks}, available: available, choose: jumping(-1)},
		&kind{name: "clock-drift", about: "A node's wall clock runs at another speed, from standing still to three times as fast.", parts: []Part{Clocks}, available: available, choose: drifting},
	}
}

// clockOwner is the leader in half of all cases: its time is that of the commands.
func clockOwner(ctx context.Context, t *Target, random *rand.Rand) (*cluster.Node, error) {
	if random.IntN(2) == 0 {
		return t.leader(ctx)
	}
	return t.some(random, 1)[0], nil
}

func jumping(sign time.Duration) chooser {
	jumps := []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
	return func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		by := sign * jumps[random.IntN(len(jumps))]
		node, err := clockOwner(ctx, t, random)
		if err != nil {
			return nil, err
		}
		return &Fault{
			Nodes: []string{node.Name()}, Text: by.String(),
			Begin: func(context.Context) error { return t.clocks.set(node, by) },
			End:   func(context.Context) error { return t.clocks.right() },
		}, nil
	}
}

func drifting(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	rate := -1 + 3*random.Float64()
	node, err := clockOwner(ctx, t, random)
	if err != nil {
		return nil, err
	}
	return &Fault{
		Nodes: []string{node.Name()}, Text: fmt.Sprintf("%.2f s a second", 1+rate),
		Begin: func(context.Context) error { return nil },
		During: func(ctx context.Context) error {
			began := time.Now()
			for pause(ctx, driftEvery) {
				if err := t.clocks.set(node, time.Duration(rate*float64(time.Since(began)))); err != nil {
					return err
				}
			}
			return nil
		},
		End: func(context.Context) error { return t.clocks.right() },
	}, nil
}
