package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// complainAfter is the number of failed rounds in a row after which a member
// without any PM node says so; it doubles every time.
const complainAfter = 8

// keepJoined enters the pool and heals it until ctx ends.
func (n *node) keepJoined(ctx context.Context) {
	if len(n.opts.Join) == 0 {
		return
	}
	lonely, complaint := 0, complainAfter
	for {
		err := n.joinMissing(ctx)
		interval := n.opts.RejoinInterval
		if n.alone() {
			interval = n.opts.RetryInterval
			if lonely++; lonely == complaint {
				complaint *= 2
				n.log.Warn("no PM node is reached by gossip, trying on", "join", n.opts.Join, "attempts", lonely, "error", err)
			}
		} else {
			lonely, complaint = 0, complainAfter
		}
		if !n.pause(ctx, interval) {
			return
		}
	}
}

// pause waits for the interval, and no longer than the short one after a member
// was lost: its address may be another member's by now. It is false when ctx
// ended.
func (n *node) pause(ctx context.Context, interval time.Duration) bool {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	left := n.table.left
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-left:
			// Once is enough; more losses must not put the attempt off.
			left = nil
			timer.Reset(min(interval, n.opts.RetryInterval))
		}
	}
}

// alone is a pool without a PM node other than this one.
func (n *node) alone() bool {
	for _, m := range n.table.list() {
		if m.Role == roleNames[pmpb.NodeMeta_ROLE_PM] {
			return false
		}
	}
	return true
}

// joinMissing tries the configured addresses that no live member has. Names are
// resolved anew every time, since the members behind them move.
func (n *node) joinMissing(ctx context.Context) error {
	live := map[string]bool{n.address: true}
	for _, m := range n.table.list() {
		live[m.GossipAddress] = true
	}
	var errs []error
	for _, address := range n.opts.Join {
		host, port, err := splitDefaultPort(address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found, err := resolve(ctx, n.opts.Resolver, host)
		if err != nil {
			n.stats.joins.WithLabelValues("unresolved").Inc()
			errs = append(errs, err)
		}
		for _, ip := range found {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if to := netip.AddrPortFrom(ip, port).String(); !live[to] {
				live[to] = true
				errs = append(errs, n.join(to))
			}
		}
	}
	return errors.Join(errs...)
}

func (n *node) join(address string) error {
	if _, err := n.list.Join([]string{address}); err != nil {
		n.stats.joins.WithLabelValues("failed").Inc()
		n.log.Debug("gossip pool cannot be entered", "through", address, "error", err)
		return fmt.Errorf("join %s: %w", address, err)
	}
	n.stats.joins.WithLabelValues("ok").Inc()
	n.log.Debug("gossip pool entered", "through", address)
	return nil
}
