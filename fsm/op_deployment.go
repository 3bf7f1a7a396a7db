package fsm

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// commitDeployment stores a deployment, its plan and its units together.
func commitDeployment(c *call, op *pmpb.CommitDeployment) error {
	doc, err := model.DecodeDeployment(op.GetDocument())
	if err != nil {
		return invalidDocument("deployment", err)
	}
	if err := checkCommit(op, doc); err != nil {
		return err
	}
	have := c.view.Deployment(doc.Key)
	if err := c.checkIncarnation(op.GetUid(), doc.Key, have); err != nil {
		return err
	}
	row := c.nextDeployment(have, doc, op.GetUid())
	if err := c.revise(row, have, op.GetRevised()); err != nil {
		return err
	}
	if err := c.placeMove(row, op); err != nil {
		return err
	}
	sent, withdrawn, err := c.placeUnits(row, have, op.GetUnits())
	if err != nil {
		return err
	}
	if err := c.settleGeneration(row, have, len(sent)+len(withdrawn) > 0 || op.GetRevised() != nil); err != nil {
		return err
	}
	c.put(atDeployments, row)
	c.tellCommit(row, have, op)
	c.tellQueued(row, sent)
	c.tellWithdrawn(row, withdrawn)
	c.tellMove(have, row)
	if err := c.placeRollout(row, have, op); err != nil {
		return err
	}
	c.keepPlan(doc.Key, op.GetPlan())
	c.put(atPlans, &Plan{
		DeploymentKey: doc.Key, DeploymentUID: row.UID, Generation: row.Generation,
		Document: op.GetPlan(), ModifyIndex: c.index,
	})
	return nil
}

// checkCommit refuses what makes no sense whatever the state is.
func checkCommit(op *pmpb.CommitDeployment, doc *model.OClassDeployment) error {
	for _, k := range []struct{ what, key string }{
		{"deployment uid", op.GetUid()}, {"deployment key", doc.Key}, {"package name", doc.PackageName},
	} {
		if err := checkKey(k.what, k.key); err != nil {
			return err
		}
	}
	if len(op.GetPlan()) > 0 && !json.Valid(op.GetPlan()) {
		return invalidf("plan is no JSON")
	}
	return checkPlanned(op.GetUnits())
}

func checkPlanned(units []*pmpb.PlannedUnit) error {
	ids, envs := make(map[string]bool, len(units)), make(map[string]bool, len(units))
	for _, u := range units {
		if err := checkKey("unit id", u.GetId()); err != nil {
			return err
		}
		if err := checkKey("unit environment", u.GetEnv()); err != nil {
			return err
		}
		switch {
		case ids[u.GetId()]:
			return invalidf("unit %q is named twice", u.GetId())
		case envs[u.GetEnv()]:
			return invalidf("environment %q has two units", u.GetEnv())
		case u.GetDesired() == nil:
			return invalidf("unit %q has no content", u.GetId())
		case u.GetContentHash() == "":
			return invalidf("unit %q has no content hash", u.GetId())
		}
		ids[u.GetId()], envs[u.GetEnv()] = true, true
	}
	return nil
}

// checkIncarnation refuses a uid that is, or was a moment ago, somebody else's.
func (c *call) checkIncarnation(uid, key string, have *Deployment) error {
	if have != nil {
		if have.UID != uid {
			return invalidf("deployment %q has the uid %q, not %q", key, have.UID, uid)
		}
		return nil
	}
	if other := c.view.DeploymentByUID(uid); other != nil {
		return invalidf("uid %q belongs to deployment %q", uid, other.Doc.Key)
	}
	if gone := c.view.Deletion(uid); gone != nil {
		return invalidf("uid %q belongs to deployment %q, which is being deleted", uid, gone.GetDeploymentKey())
	}
	return nil
}

// nextDeployment makes the row from the document, which belongs to this call. Its
// times are the server's. The generation is settled later.
func (c *call) nextDeployment(have *Deployment, doc *model.OClassDeployment, uid string) *Deployment {
	row := &Deployment{Doc: doc, UID: uid, Generation: 1, CreateIndex: c.index, ModifyIndex: c.index}
	doc.CreatedAt, doc.UpdatedAt = c.stamp(), c.stamp()
	if have != nil {
		row.Generation, row.CreateIndex = have.Generation+1, have.CreateIndex
		doc.CreatedAt = have.Doc.CreatedAt
	}
	return row
}

// stamp gives the command's time for a document.
func (c *call) stamp() *time.Time {
	at := c.now()
	if at == nil {
		return nil
	}
	t := at.AsTime()
	return &t
}

// settleGeneration takes the new generation back when the same was wished again.
func (c *call) settleGeneration(row, have *Deployment, moved bool) error {
	if have == nil || moved {
		return nil
	}
	before, err := wishOf(have.Doc)
	if err != nil {
		return err
	}
	after, err := wishOf(row.Doc)
	if err != nil {
		return err
	}
	if bytes.Equal(before, after) {
		row.Generation = have.Generation
	}
	return nil
}

// wishOf encodes what the user asked for, without what the server adds.
func wishOf(doc *model.OClassDeployment) ([]byte, error) {
	wish := *doc
	wish.CreatedAt, wish.UpdatedAt, wish.Status, wish.Condition = nil, nil, nil, model.ConditionPending
	data, err := wish.MarshalJSON()
	if err != nil {
		return nil, invalidDocument("deployment", err)
	}
	return data, nil
}

// placeUnits upserts the planned units and buries those that are no longer
// planned, but for those that a move leaves as they are. It gives the environments of those whose wish has changed.
func (c *call) placeUnits(row, have *Deployment, planned []*pmpb.PlannedUnit) (sent, withdrawn []string, err error) {
	keep := make(map[string]bool, len(planned))
	for _, p := range planned {
		keep[p.GetId()] = true
		old := c.view.Unit(p.GetId())
		if old != nil && (old.GetDeploymentUid() != row.UID || old.GetEnv() != p.GetEnv()) {
			return nil, nil, invalidf("unit id %q belongs to deployment %q in environment %q", p.GetId(), old.GetDeploymentUid(), old.GetEnv())
		}
		if old != nil && !old.GetTombstone() && old.GetContentHash() == p.GetContentHash() {
			continue // the cluster has it, or is being sent it, under the old fence
		}
		u, err := c.wish(row, p, old)
		if err != nil {
			return nil, nil, err
		}
		c.putUnit(old, u)
		sent = append(sent, p.GetEnv())
	}
	if have != nil {
		for _, old := range c.view.UnitsByDeployment(row.UID) {
			if !keep[old.GetId()] && !old.GetTombstone() && !leaves(row.Move, old.GetEnv()) {
				c.putUnit(old, c.bury(old, row.Generation))
				withdrawn = append(withdrawn, old.GetEnv())
			}
		}
	}
	return sent, withdrawn, nil
}

// wish makes the row of a unit with new content. What the cluster confirmed and
// reported stays on record: it is about the old content, which its hash and fence
// show, and may well be running until the new content arrives.
func (c *call) wish(d *Deployment, p *pmpb.PlannedUnit, old *pmpb.Unit) (*pmpb.Unit, error) {
	desired, err := encodeDesired(p.GetDesired())
	if err != nil {
		return nil, invalidf("unit %q: %v", p.GetId(), err)
	}
	u := &pmpb.Unit{
		Id: p.GetId(), DeploymentUid: d.UID, DeploymentKey: d.Doc.Key, Env: p.GetEnv(),
		Desired: desired, ContentHash: p.GetContentHash(), Generation: d.Generation,
		Fence: c.index, Epoch: c.meta.pb.GetEpoch(),
		CreatedAt: c.now(), CreateIndex: c.index, ModifyIndex: c.index,
	}
	if old != nil {
		u.CreatedAt, u.CreateIndex = old.GetCreatedAt(), old.GetCreateIndex()
		u.Ack, u.Runtime = old.GetAck(), old.GetRuntime()
	}
	return u, nil
}

// bury makes a tombstone of a unit. The cluster may have the unit even when it
// never acknowledged it, so every withdrawn unit gets one.
func (c *call) bury(old *pmpb.Unit, generation uint64) *pmpb.Unit {
	u := shallow(old)
	u.Tombstone, u.Waiting = true, nil
	u.Generation, u.Fence, u.Epoch = generation, c.index, c.meta.pb.GetEpoch()
	u.ModifyIndex = c.index
	return u
}

// deleteDeployment removes a deployment and its plan, and leaves a deletion when
// there are clusters that have to confirm. Tombstones that it finds keep their
// fence: they are on their way already.
func deleteDeployment(c *call, op *pmpb.DeleteDeployment) error {
	have := c.view.Deployment(op.GetKey())
	if have == nil || (op.GetUid() != "" && op.GetUid() != have.UID) {
		return &NotFoundError{Table: TableDeployments, Key: op.GetKey()}
	}
	c.drop(atDeployments, have)
	if plan := c.view.Plan(op.GetKey()); plan != nil {
		c.drop(atPlans, plan)
	}
	c.dropPastPlans(op.GetKey())
	c.dropRevisions(op.GetKey())
	if r := c.view.Rollout(op.GetKey()); r != nil {
		c.drop(atRollouts, r)
	}
	units := c.view.UnitsByDeployment(have.UID)
	var envs []string
	for _, u := range units {
		envs = append(envs, u.GetEnv())
		if !u.GetTombstone() {
			c.putUnit(u, c.bury(u, have.Generation+1))
		}
	}
	envs = slices.Compact(envs)
	c.tellDeletion(have, envs)
	if len(units) == 0 {
		return nil
	}
	c.put(atDeletions, &pmpb.Deletion{
		DeploymentUid: have.UID, DeploymentKey: have.Doc.Key,
		PackageName: have.Doc.PackageName, ClassKey: have.Doc.ClassKey,
		Envs: envs, DeletedAt: c.now(),
		CreateIndex: c.index, ModifyIndex: c.index,
	})
	return nil
}
