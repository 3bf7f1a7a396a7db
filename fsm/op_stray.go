package fsm

import (
	"slices"
	"strings"

	"oaas.io/control-plane/proto/pmpb"
)

// MaxStrays is how many strays of a cluster are remembered. It is part of the replicated
// semantics. A cluster that has more shows the others when these are gone.
const MaxStrays = 256

func checkStrays(strays []*pmpb.Stray) error {
	if len(strays) > MaxStrays {
		return invalidf("%d strays, at most %d are remembered", len(strays), MaxStrays)
	}
	for i, s := range strays {
		for _, name := range []string{s.GetUnitId(), s.GetDeploymentUid(), s.GetDeploymentKey()} {
			if err := checkKey("stray", name); err != nil {
				return err
			}
		}
		if i > 0 && strays[i-1].GetUnitId() >= s.GetUnitId() {
			return invalidf("stray %q is not after %q", s.GetUnitId(), strays[i-1].GetUnitId())
		}
	}
	return nil
}

// orphanUnits gives up tombstones. Nothing that is wanted is touched, and what is given up is
// remembered as long as the cluster is: when it comes back, it is removed there after all.
func orphanUnits(c *call, op *pmpb.OrphanUnits) error {
	b := newUnitBatch(c)
	rows := map[string]*pmpb.Cluster{}
	found := false
	for _, u := range c.view.UnitsByDeployment(op.GetDeploymentUid()) {
		if !u.GetTombstone() || !slices.Contains(op.GetEnvs(), u.GetEnv()) {
			continue
		}
		found = true
		if have := c.view.Cluster(u.GetEnv()); have != nil {
			row := rows[u.GetEnv()]
			if row == nil {
				row = shallow(have)
				row.ModifyIndex = c.index
				rows[u.GetEnv()] = row
			}
			row.Strays = withStray(row.GetStrays(), &pmpb.Stray{
				UnitId: u.GetId(), DeploymentUid: u.GetDeploymentUid(), DeploymentKey: u.GetDeploymentKey(), FirstSeen: c.now(), Orphaned: true, Epoch: u.GetEpoch(),
			})
			if len(row.GetStrays()) > MaxStrays {
				return invalidf("%d strays of cluster %q are remembered already, which is all that can be", MaxStrays, u.GetEnv())
			}
		}
		b.tellGone(u, u.GetEnv(), EventOrphaned)
		b.release(u, true)
	}
	if !found {
		return &NotFoundError{Table: TableDeletions, Key: op.GetDeploymentUid()}
	}
	for _, name := range sortedKeys(rows) {
		c.put(atClusters, rows[name])
	}
	return nil
}

// buryStrays makes tombstones. A stray of which the state has a unit by now is none. There
// are never more than MaxStrays such tombstones of a cluster: one that names ever new
// runtimes and confirms none must not fill the state. The others wait.
func buryStrays(c *call, op *pmpb.BuryStrays) error {
	have := c.view.Cluster(op.GetEnv())
	if have == nil {
		return &NotFoundError{Table: TableClusters, Key: op.GetEnv()}
	}
	row := shallow(have)
	row.Strays, row.ModifyIndex = nil, c.index
	deletions := map[string]*pmpb.Deletion{}
	room := MaxStrays
	for u := range c.view.UnitsChangedSince(op.GetEnv(), 0) {
		if buried(u) {
			room--
		}
	}
	for _, s := range have.GetStrays() {
		wanted := c.view.Unit(s.GetUnitId()) != nil
		if !slices.Contains(op.GetUnitIds(), s.GetUnitId()) || !wanted && room <= 0 {
			row.Strays = append(row.Strays, s)
			continue
		}
		if !wanted {
			room--
			c.buryStray(op.GetEnv(), s, deletions)
		}
	}
	if len(row.GetStrays()) == len(have.GetStrays()) {
		return nil
	}
	c.put(atClusters, row)
	for _, uid := range sortedKeys(deletions) {
		c.put(atDeletions, deletions[uid])
	}
	return nil
}

// buried reports that a unit is the tombstone of a stray: it never had any content.
func buried(u *pmpb.Unit) bool { return u.GetTombstone() && u.GetContentHash() == "" }

// hearsay reports that nothing but the word of a cluster says whose a unit is. What happens to
// it is not told: else a cluster could push the events of others out of the timeline.
func (c *call) hearsay(u *pmpb.Unit) bool {
	return buried(u) && !slices.ContainsFunc(c.view.Timeline(u.GetDeploymentKey()), func(e *pmpb.TimelineEvent) bool {
		return e.GetDeploymentUid() == u.GetDeploymentUid()
	})
}

// buryStray makes one tombstone, and sees to it that there is a deployment or a deletion that
// it belongs to. deletions are those that the command has changed.
func (c *call) buryStray(env string, s *pmpb.Stray, deletions map[string]*pmpb.Deletion) {
	u := &pmpb.Unit{
		Id: s.GetUnitId(), DeploymentUid: s.GetDeploymentUid(), DeploymentKey: s.GetDeploymentKey(), Env: env, Tombstone: true,
		Fence: c.index, Epoch: c.meta.pb.GetEpoch(), CreatedAt: c.now(), CreateIndex: c.index, ModifyIndex: c.index,
	}
	if owner := c.view.DeploymentByUID(u.GetDeploymentUid()); owner != nil {
		u.DeploymentKey, u.Generation = owner.Doc.Key, owner.Generation
	} else {
		row := deletions[u.GetDeploymentUid()]
		if row == nil {
			row = c.deletionFor(u)
			deletions[u.GetDeploymentUid()] = row
		}
		u.DeploymentKey = row.GetDeploymentKey()
		row.Envs = withName(row.GetEnvs(), env)
		row.ConfirmedEnvs, row.OrphanedEnvs = withoutName(row.GetConfirmedEnvs(), env), withoutName(row.GetOrphanedEnvs(), env)
	}
	c.put(atUnits, u)
	if c.hearsay(u) {
		return
	}
	c.tell(&pmpb.TimelineEvent{
		DeploymentKey: u.GetDeploymentKey(), DeploymentUid: u.GetDeploymentUid(), Env: env, Type: EventStrayBuried,
		Message: "the cluster has " + u.GetId() + ", which nothing wants; it is removed",
	})
}

// deletionFor is the deletion that a tombstone belongs to, as a row that may be changed.
func (c *call) deletionFor(u *pmpb.Unit) *pmpb.Deletion {
	row := &pmpb.Deletion{DeploymentUid: u.GetDeploymentUid(), DeploymentKey: u.GetDeploymentKey(), DeletedAt: c.now(), CreateIndex: c.index}
	if have := c.view.Deletion(u.GetDeploymentUid()); have != nil {
		row = shallow(have)
	}
	row.ModifyIndex = c.index
	return row
}

// withStray gives a list with one more, in the place of an earlier one of the same unit.
func withStray(strays []*pmpb.Stray, s *pmpb.Stray) []*pmpb.Stray {
	at, found := slices.BinarySearchFunc(strays, s.GetUnitId(), func(s *pmpb.Stray, id string) int { return strings.Compare(s.GetUnitId(), id) })
	out := slices.Clone(strays)
	if found {
		out[at] = s
		return out
	}
	return slices.Insert(out, at, s)
}

// withName gives a sorted list of names with one more, withoutName with one less. The list
// itself stays.
func withName(names []string, name string) []string {
	if at, found := slices.BinarySearch(names, name); !found {
		return slices.Insert(slices.Clone(names), at, name)
	}
	return names
}

func withoutName(names []string, name string) []string {
	if at, found := slices.BinarySearch(names, name); found {
		return slices.Delete(slices.Clone(names), at, at+1)
	}
	return names
}
