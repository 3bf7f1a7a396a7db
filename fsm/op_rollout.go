package fsm

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// Limits of a rollout.
const (
	maxRolloutEnvs = 10_000
	maxRolloutText = 2048
)

// RolloutSettled reports that all environments of a rollout have its revision, or the one
// to which it was taken back.
func RolloutSettled(phase pmpb.RolloutPhase) bool {
	return phase == pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE || phase == pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK
}

// RolloutMoves reports that a rollout goes on by itself.
func RolloutMoves(phase pmpb.RolloutPhase) bool {
	return phase == pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING || phase == pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK
}

// placeRollout stores the rollout that a deployment has after it was committed, or drops
// the one that it had.
func (c *call) placeRollout(row, have *Deployment, op *pmpb.CommitDeployment) error {
	old, next := c.view.Rollout(row.Doc.Key), op.GetRollout()
	if next == nil {
		if old != nil {
			c.drop(atRollouts, old)
		}
		return nil
	}
	if have == nil {
		return invalidf("deployment %q is new and has nothing to roll out", row.Doc.Key)
	}
	envs := make([]string, 0, len(op.GetUnits()))
	for _, u := range op.GetUnits() {
		envs = append(envs, u.GetEnv())
	}
	if err := c.fillRollout(next, row, have, old, envs); err != nil {
		return err
	}
	c.putRollout(old, next)
	return nil
}

// stepRollout stores the next state of a rollout and the units that it changes. The
// revisions stay: another one comes with the deployment.
func stepRollout(c *call, op *pmpb.StepRollout) error {
	key := op.GetRollout().GetDeploymentKey()
	have, old := c.view.Deployment(key), c.view.Rollout(key)
	if have == nil || old == nil || op.GetRollout().GetDeploymentUid() != have.UID {
		return &NotFoundError{Table: TableRollouts, Key: key}
	}
	next := op.GetRollout()
	if next.GetRevision() != old.GetRevision() || next.GetStable() != old.GetStable() {
		return invalidf("the rollout of %q goes to revision %d and back to %d, not to %d and %d",
			key, old.GetRevision(), old.GetStable(), next.GetRevision(), next.GetStable())
	}
	var live []string
	for _, u := range c.view.UnitsByDeployment(have.UID) {
		if !u.GetTombstone() {
			live = append(live, u.GetEnv())
		}
	}
	if err := c.fillRollout(next, have, have, old, live); err != nil {
		return err
	}
	c.putRollout(old, next)
	return c.stepUnits(have, op.GetUnits())
}

// stepUnits gives live units of a deployment new content.
func (c *call) stepUnits(d *Deployment, planned []*pmpb.PlannedUnit) error {
	if err := checkPlanned(planned); err != nil {
		return err
	}
	var sent []string
	for _, p := range planned {
		old := c.view.Unit(p.GetId())
		if old == nil || old.GetTombstone() || old.GetDeploymentUid() != d.UID || old.GetEnv() != p.GetEnv() {
			return invalidf("%q is no unit of deployment %q in environment %q", p.GetId(), d.Doc.Key, p.GetEnv())
		}
		if old.GetContentHash() == p.GetContentHash() {
			continue
		}
		u, err := c.wish(d, p, old)
		if err != nil {
			return err
		}
		c.putUnit(old, u)
		sent = append(sent, p.GetEnv())
	}
	c.tellQueued(d, sent)
	return nil
}

// fillRollout completes a rollout with what the state knows, and checks it. d is the
// deployment after the command and have the one before; envs are those of its units.
func (c *call) fillRollout(next *pmpb.Rollout, d, have *Deployment, old *pmpb.Rollout, envs []string) error {
	next.DeploymentKey, next.DeploymentUid = d.Doc.Key, d.UID
	if next.GetRevision() != d.RevisionNumber() {
		return invalidf("deployment %q has revision %d, not %d", d.Doc.Key, d.RevisionNumber(), next.GetRevision())
	}
	for _, e := range next.GetEnvs() {
		if !slices.Contains(envs, e.GetEnv()) {
			return invalidf("deployment %q has no unit in environment %q, which its rollout names", d.Doc.Key, e.GetEnv())
		}
	}
	if err := c.keepDocuments(next, have, old); err != nil {
		return err
	}
	next.CreateIndex, next.ModifyIndex = c.index, c.index
	if old.GetRevision() == next.GetRevision() {
		next.CreateIndex = old.GetCreateIndex()
	}
	if err := checkRollout(next); err != nil {
		return invalidf("rollout of %q: %v", d.Doc.Key, err)
	}
	return nil
}

// keepDocuments gives a rollout what is needed to go back: the deployment and the class at
// the stable revision. The command gives the classes once.
func (c *call) keepDocuments(next *pmpb.Rollout, have *Deployment, old *pmpb.Rollout) error {
	next.StableDocument = nil
	if RolloutSettled(next.GetPhase()) {
		next.StableClass, next.Class = nil, nil
		return nil
	}
	if len(next.GetClass()) == 0 && old.GetRevision() == next.GetRevision() {
		next.Class = old.GetClass()
	}
	if next.GetStable() == next.GetRevision() {
		next.StableClass = nil
		return nil
	}
	kept := old != nil && old.GetStable() == next.GetStable()
	if len(next.GetStableClass()) == 0 && kept {
		next.StableClass = old.GetStableClass()
	}
	switch {
	case kept && len(old.GetStableDocument()) > 0:
		next.StableDocument = old.GetStableDocument()
	case next.GetStable() == have.RevisionNumber():
		doc, err := have.Doc.MarshalJSON()
		if err != nil {
			return invalidDocument("deployment", err)
		}
		next.StableDocument = doc
	default:
		return invalidf("revision %d of deployment %q, to which a rollback would go, is not at hand", next.GetStable(), have.Doc.Key)
	}
	return nil
}

// checkRollout refuses a rollout that makes no sense by itself.
func checkRollout(r *pmpb.Rollout) error {
	switch n := len(r.GetEnvs()); {
	case r.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_UNSPECIFIED || r.GetPhase() > pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK:
		return fmt.Errorf("it has no phase that is known")
	case r.GetStable() == 0 || r.GetStable() > r.GetRevision():
		return fmt.Errorf("it goes from revision %d to %d", r.GetStable(), r.GetRevision())
	case n > maxRolloutEnvs:
		return fmt.Errorf("it has %d environments, at most %d are allowed", n, maxRolloutEnvs)
	case max(len(r.GetReason()), len(r.GetMessage())) > maxRolloutText:
		return fmt.Errorf("it has a text of more than %d bytes", maxRolloutText)
	case r.GetMaxUnavailable() == 0:
		return fmt.Errorf("it permits no environment to be unavailable")
	case !isJSON(r.GetStableDocument()) || !isJSON(r.GetStableClass()) || !isJSON(r.GetClass()):
		return fmt.Errorf("it has a document that is no JSON")
	}
	seen := make(map[string]bool, len(r.GetEnvs()))
	for _, e := range r.GetEnvs() {
		if err := checkKey("environment", e.GetEnv()); err != nil {
			return err
		}
		switch {
		case seen[e.GetEnv()]:
			return fmt.Errorf("environment %q is named twice", e.GetEnv())
		case e.GetRevision() == 0 || e.GetRevision() > r.GetRevision():
			return fmt.Errorf("environment %q is said to have revision %d of %d", e.GetEnv(), e.GetRevision(), r.GetRevision())
		case !valid(e.GetUpdated()):
			return fmt.Errorf("environment %q has a time that is out of range", e.GetEnv())
		}
		seen[e.GetEnv()] = true
	}
	for _, t := range []*timestamppb.Timestamp{r.GetWaveStarted(), r.GetDeadline(), r.GetPaused(), r.GetStarted(), r.GetEnded()} {
		if !valid(t) {
			return fmt.Errorf("it has a time that is out of range")
		}
	}
	for _, d := range []*durationpb.Duration{r.GetMinHealthyTime(), r.GetProgressDeadline()} {
		if d != nil && (!d.IsValid() || d.AsDuration() < 0) {
			return fmt.Errorf("it has a duration that is out of range")
		}
	}
	return nil
}

func valid(t *timestamppb.Timestamp) bool { return t == nil || t.IsValid() }

// putRollout writes a rollout and tells what has become of it.
func (c *call) putRollout(old, next *pmpb.Rollout) {
	c.put(atRollouts, next)
	c.tellRollout(old, next)
}

// rollouts holds the rollouts of a snapshot against their deployments.
func (k *checker) rollouts() error {
	for r := range rowsOf[*pmpb.Rollout](k.contents, atRollouts) {
		key := r.GetDeploymentKey()
		if owner, ok := k.uids[r.GetDeploymentUid()]; !ok || owner != key {
			return k.fail(TableRollouts, "%q has no deployment with the uid %q", key, r.GetDeploymentUid())
		}
		if r.GetRevision() != k.numbers[key] {
			return k.fail(TableRollouts, "%q has revision %d, its rollout goes to %d", key, k.numbers[key], r.GetRevision())
		}
		if err := k.indexes(TableRollouts, key, r.GetCreateIndex(), r.GetModifyIndex()); err != nil {
			return err
		}
	}
	return nil
}
