package nemesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/cluster"
)

// upgradeLimit is how long an upgrade waits for a node before it takes the next one all the same.
const upgradeLimit = 10 * time.Second

// upgrades is the nemesis of other programs.
func upgrades() []Nemesis {
	return []Nemesis{&kind{
		name: "upgrade", about: "The nodes are restarted one by one with another build, the leader last.", parts: []Part{Nodes, Members},
		available: func(t *Target) error {
			if len(t.Binaries) < 2 {
				return errors.New("needs two builds of pmd (--upgrade-bin)")
			}
			return nil
		},
		choose: upgrading,
	}}
}

// upgrading goes through all nodes even when its time is over: a cluster of two builds would be another fault, which nobody
// has asked for.
func upgrading(ctx context.Context, t *Target, _ *rand.Rand) (*Fault, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	order := t.others(leader.Name())
	order = append(order, leader.Name())
	next := (t.build + 1) % len(t.Binaries)
	roll := func(ctx context.Context) error {
		for len(order) > 0 && ctx.Err() == nil {
			node := t.Cluster.Node(order[0])
			if err := restartWith(ctx, node, t.Binaries[next]); err != nil {
				return err
			}
			order = order[1:]
		}
		return nil
	}
	return &Fault{
		Nodes: slices.Clone(order), Text: fmt.Sprintf("to build %d", next+1),
		Begin:  func(context.Context) error { t.build = next; return nil },
		During: roll,
		End: func(ctx context.Context) error {
			return errors.Join(roll(ctx), startAll(ctx, t.Cluster.Nodes()))
		},
	}, nil
}

func restartWith(ctx context.Context, node *cluster.Node, binary string) error {
	node.SetBinary(binary)
	// An upgrade that has begun is brought to its end: half a restart is a node that is down.
	ctx = context.WithoutCancel(ctx)
	stopCtx, cancel := context.WithTimeout(ctx, upgradeLimit)
	defer cancel()
	if err := node.Stop(stopCtx); err != nil {
		return fmt.Errorf("stop %s: %w", node.Name(), err)
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	readyCtx, cancel := context.WithTimeout(ctx, upgradeLimit)
	defer cancel()
	if err := node.WaitReady(readyCtx); err != nil && readyCtx.Err() == nil {
		return err
	}
	return nil // another fault may keep it from being ready; the next one follows all the same
}

func values(m map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
