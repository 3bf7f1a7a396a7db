package fsm

import (
	"fmt"

	"oaas.io/control-plane/proto/pmpb"
)

// check holds the contents against the invariants of the state: a snapshot that
// was written by a broken build must not take over a node. It also sums up what
// the meta row derives.
func (c *contents) check() error {
	k := &checker{
		contents: c, applied: c.meta.pb.GetAppliedIndex(),
		uids: map[string]string{}, numbers: map[string]uint64{}, tombstones: map[string]int{}, deletions: map[string]bool{}, orders: map[uint64]bool{},
	}
	for _, step := range []func() error{k.deployments, k.plans, k.deletionRows, k.units, k.deletionsHaveTombstones, k.others, k.replies, k.staged, k.audit, k.pastPlans, k.revisions, k.rollouts, k.timeline} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type checker struct {
	*contents
	applied uint64
	// uids are the keys of the deployments by uid.
	uids map[string]string
	// numbers are their revisions, by key.
	numbers    map[string]uint64
	tombstones map[string]int
	deletions  map[string]bool
	orders     map[uint64]bool
}

func (k *checker) fail(table, format string, args ...any) error {
	return &CorruptSnapshotError{Where: table, Reason: fmt.Sprintf(format, args...)}
}

// indexes checks a row's indexes against the state's.
func (k *checker) indexes(table, key string, create, modify uint64) error {
	if create > modify || modify > k.applied {
		return k.fail(table, "%q was created at %d and modified at %d, the state is at %d", key, create, modify, k.applied)
	}
	return nil
}

func (k *checker) deployments() error {
	for d := range rowsOf[*Deployment](k.contents, atDeployments) {
		for _, name := range []string{d.UID, d.Doc.PackageName} {
			if err := checkKey("uid or package name", name); err != nil {
				return k.fail(TableDeployments, "%q: %v", d.Doc.Key, err)
			}
		}
		if other, taken := k.uids[d.UID]; taken {
			return k.fail(TableDeployments, "%q and %q have the same uid %q", other, d.Doc.Key, d.UID)
		}
		k.uids[d.UID] = d.Doc.Key
		k.numbers[d.Doc.Key] = d.RevisionNumber()
		if err := k.indexes(TableDeployments, d.Doc.Key, d.CreateIndex, d.ModifyIndex); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) plans() error {
	for p := range rowsOf[*Plan](k.contents, atPlans) {
		if key, ok := k.uids[p.DeploymentUID]; !ok || key != p.DeploymentKey {
			return k.fail(TablePlans, "%q has no deployment with the uid %q", p.DeploymentKey, p.DeploymentUID)
		}
		if err := k.indexes(TablePlans, p.DeploymentKey, 0, p.ModifyIndex); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) deletionRows() error {
	for d := range rowsOf[*pmpb.Deletion](k.contents, atDeletions) {
		if key, ok := k.uids[d.GetDeploymentUid()]; ok {
			return k.fail(TableDeletions, "%q is the uid of deployment %q, which exists", d.GetDeploymentUid(), key)
		}
		k.deletions[d.GetDeploymentUid()] = true
		if err := k.indexes(TableDeletions, d.GetDeploymentUid(), d.GetCreateIndex(), d.GetModifyIndex()); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) units() error {
	for u := range rowsOf[*pmpb.Unit](k.contents, atUnits) {
		for _, name := range []string{u.GetEnv(), u.GetDeploymentUid()} {
			if err := checkKey("environment or deployment uid", name); err != nil {
				return k.fail(TableUnits, "%q: %v", u.GetId(), err)
			}
		}
		_, owned := k.uids[u.GetDeploymentUid()]
		switch {
		case !owned && !u.GetTombstone():
			return k.fail(TableUnits, "%q has no deployment with the uid %q", u.GetId(), u.GetDeploymentUid())
		case !owned && !k.deletions[u.GetDeploymentUid()]:
			return k.fail(TableUnits, "tombstone %q has neither a deployment nor a deletion with the uid %q", u.GetId(), u.GetDeploymentUid())
		case u.GetFence() > k.applied:
			return k.fail(TableUnits, "%q has the fence %d, the state is at %d", u.GetId(), u.GetFence(), k.applied)
		case u.GetEpoch() > k.meta.pb.GetEpoch():
			return k.fail(TableUnits, "%q has the epoch %d, the state is in %d", u.GetId(), u.GetEpoch(), k.meta.pb.GetEpoch())
		}
		if u.GetTombstone() {
			k.tombstones[u.GetDeploymentUid()]++
		}
		if err := k.indexes(TableUnits, u.GetId(), u.GetCreateIndex(), u.GetModifyIndex()); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) deletionsHaveTombstones() error {
	for d := range rowsOf[*pmpb.Deletion](k.contents, atDeletions) {
		if k.tombstones[d.GetDeploymentUid()] == 0 {
			return k.fail(TableDeletions, "%q has no tombstone left", d.GetDeploymentUid())
		}
	}
	return nil
}

func (k *checker) others() error {
	for p := range rowsOf[*Package](k.contents, atPackages) {
		if err := k.indexes(TablePackages, p.Doc.Name, p.CreateIndex, p.ModifyIndex); err != nil {
			return err
		}
	}
	for c := range rowsOf[*pmpb.Cluster](k.contents, atClusters) {
		if err := checkStrays(c.GetStrays()); err != nil {
			return k.fail(TableClusters, "%q: %v", c.GetName(), err)
		}
		if err := k.indexes(TableClusters, c.GetName(), c.GetCreateIndex(), c.GetModifyIndex()); err != nil {
			return err
		}
	}
	for a := range rowsOf[*pmpb.Autopilot](k.contents, atAutopilot) {
		if err := k.indexes(TableAutopilot, autopilotKey, 0, a.GetModifyIndex()); err != nil {
			return err
		}
	}
	for a := range rowsOf[*pmpb.Alarm](k.contents, atAlarms) {
		if err := k.indexes(TableAlarms, alarmKey(a.GetKey()), 0, a.GetModifyIndex()); err != nil {
			return err
		}
	}
	for m := range rowsOf[*pmpb.Member](k.contents, atMembers) {
		if err := k.indexes(TableMembers, m.GetServerId(), 0, m.GetModifyIndex()); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) replies() error {
	for r := range rowsOf[*pmpb.Reply](k.contents, atReplies) {
		if k.orders[r.GetCreateIndex()] {
			return k.fail(TableReplies, "%q is the second reply of command %d", r.GetKey(), r.GetCreateIndex())
		}
		k.orders[r.GetCreateIndex()] = true
		k.meta.replies.of(r.GetEphemeral()).add(r, 1)
		if err := k.indexes(TableReplies, r.GetKey(), 0, r.GetCreateIndex()); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf ranges over the rows of a table.
func rowsOf[Row any](c *contents, table int) func(yield func(Row) bool) {
	return func(yield func(Row) bool) {
		for _, row := range c.rows[table] {
			if !yield(row.(Row)) {
				return
			}
		}
	}
}
