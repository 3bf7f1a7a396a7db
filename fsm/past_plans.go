package fsm

import (
	"bytes"
	"fmt"
	"slices"
)

// Limits of the past plans, which are kept from the level PlannerFrom on. They are
// part of the replicated semantics.
const (
	// MaxPlans is how many plans of a deployment are kept, the present one included.
	MaxPlans = 20
	// MaxPastPlan is how many bytes a plan may have to be kept when it is past.
	MaxPastPlan = 64 << 10
	// MaxPastPlans bounds the bytes of all past plans: many deployments must not fill
	// the memory with what was once thought of them. The oldest go first.
	MaxPastPlans = 64 << 20
)

// pastPlanKey is the key of a past plan in a snapshot. It sorts as the rows do: by
// index, then by deployment, as a restore writes many plans with one index.
func pastPlanKey(deployment string, index uint64) string {
	return fmt.Sprintf("%020d/%s", index, deployment)
}

// keepPlan makes the present plan of a deployment a past one, as another takes its
// place. It cannot fail.
func (c *call) keepPlan(key string, next []byte) {
	have := c.view.Plan(key)
	if c.view.FeatureLevel() < PlannerFrom || have == nil || bytes.Equal(have.Document, next) {
		return
	}
	if n := len(have.Document); n == 0 || n > MaxPastPlan || len(pastPlanKey(key, have.ModifyIndex)) > maxKeyBytes {
		return
	}
	past := c.view.PastPlans(key)
	gone := map[*Plan]bool{}
	drop := func(p *Plan) {
		gone[p] = true
		c.meta.past -= len(p.Document)
		c.drop(atPastPlans, p)
	}
	// The newest come first, and beside them there are the one that becomes past and
	// the present one.
	for _, old := range past[min(len(past), MaxPlans-2):] {
		drop(old)
	}
	for old := range c.view.store.pastPlans().each() {
		if c.meta.past+len(have.Document) <= MaxPastPlans {
			break
		}
		if !gone[old] {
			drop(old)
		}
	}
	c.meta.past += len(have.Document)
	c.put(atPastPlans, have)
}

// dropPastPlans forgets the past plans of a deployment.
func (c *call) dropPastPlans(key string) {
	for _, p := range c.view.PastPlans(key) {
		c.meta.past -= len(p.Document)
		c.drop(atPastPlans, p)
	}
}

// PastPlans gives the plans of a deployment before its present one, the newest first.
func (s *Snapshot) PastPlans(key string) []*Plan {
	out := slices.Collect(while(s.store.pastPlans().from(pastPlansByDeployment, &Plan{DeploymentKey: key}), func(p *Plan) bool { return p.DeploymentKey == key }))
	slices.Reverse(out)
	return out
}

// pastPlans holds the past plans of a snapshot against what commands let in.
func (k *checker) pastPlans() error {
	held := map[string]int{}
	for p := range rowsOf[*Plan](k.contents, atPastPlans) {
		key := pastPlanKey(p.DeploymentKey, p.ModifyIndex)
		if owner, ok := k.uids[p.DeploymentUID]; !ok || owner != p.DeploymentKey {
			return k.fail(TablePastPlans, "%q has no deployment with the uid %q", key, p.DeploymentUID)
		}
		if n := len(p.Document); n == 0 || n > MaxPastPlan {
			return k.fail(TablePastPlans, "%q has %d bytes", key, n)
		}
		if held[p.DeploymentKey]++; held[p.DeploymentKey] >= MaxPlans {
			return k.fail(TablePastPlans, "%q has %d or more", p.DeploymentKey, MaxPlans)
		}
		if k.meta.past += len(p.Document); k.meta.past > MaxPastPlans {
			return k.fail(TablePastPlans, "they have more than %d bytes", MaxPastPlans)
		}
		if err := k.indexes(TablePastPlans, key, 0, p.ModifyIndex); err != nil {
			return err
		}
	}
	return nil
}
