package nemesis

import (
	"context"
	"errors"
	"fmt"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/jepsen/cluster"
)

// Heal repairs everything that any nemesis can have broken, whatever has happened before. It does not wait until the cluster
// is in order again. What is in order already is left as it is.
func Heal(ctx context.Context, t *Target) error {
	errs := []error{t.Cluster.Network().HealAll(), t.clocks.right()}
	for _, n := range t.Cluster.Nodes() {
		if t.Disks != nil {
			if disk := t.Disks(n.Name()); disk != nil {
				disk.Heal()
			}
		}
		revive := reviveNode
		if _, out := t.removed.Load(n.Name()); out {
			revive = t.renew
		}
		if err := revive(ctx, n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		}
	}
	errs = append(errs, t.giveVotes(ctx), t.shrink(ctx))
	for _, m := range t.Cluster.Managers() {
		if err := reviveCRM(ctx, m); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name(), err))
		}
	}
	for _, a := range t.Cluster.Agents() {
		errs = append(errs, a.Behave(agent.Faithful))
	}
	return errors.Join(errs...)
}

// Recover heals and waits until the cluster can be used. A node that ends by itself meanwhile, for what was done to it before, is
// started again, as by the keeper.
func Recover(ctx context.Context, t *Target) error {
	for {
		err := Heal(ctx, t)
		if err == nil {
			err = t.Cluster.WaitReady(ctx)
		}
		if err == nil || !pause(ctx, keepEvery) {
			return err
		}
	}
}

func reviveNode(ctx context.Context, n *cluster.Node) error {
	if n.Paused() {
		_ = n.Resume() // one that has ended meanwhile is started below
	}
	if n.Running() {
		return nil
	}
	return n.Start(ctx)
}
