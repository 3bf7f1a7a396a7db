package fsm

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// Limits of a move.
const (
	maxMoveEnvs = 10_000
	maxMoveText = 2048
	// MaxFailovers is how many failovers of a deployment are remembered.
	MaxFailovers = 32
)

// leaves reports that a move leaves the unit of an environment as it is until it is
// withdrawn.
func leaves(m *pmpb.Move, env string) bool {
	return slices.ContainsFunc(m.GetLeaving(), func(l *pmpb.Leaving) bool { return l.GetEnv() == env })
}

// Leaves reports that the deployment is leaving an environment: it has a unit there that is
// not in its plan.
func (d *Deployment) Leaves(env string) bool { return leaves(d.Move, env) }

// PlannedUnits gives the units of a deployment but for those in environments that it is
// leaving, tombstones included.
func (s *Snapshot) PlannedUnits(d *Deployment) []*pmpb.Unit {
	return slices.DeleteFunc(s.UnitsByDeployment(d.UID), func(u *pmpb.Unit) bool { return !u.GetTombstone() && d.Leaves(u.GetEnv()) })
}

// drains reports that a policy holds what only servers of FailoverFrom know.
func drains(p *pmpb.ClusterPolicy) bool {
	return p.GetDraining() || p.GetDrainReason() != "" || p.GetDrainSince() != nil || p.GetDrainDeployments() != 0
}

// placeMove gives a deployment the move of a commit. What leaves has a live unit, and is not
// in the plan.
func (c *call) placeMove(row *Deployment, op *pmpb.CommitDeployment) error {
	m := op.GetMove()
	if err := checkMove(m); err != nil {
		return invalidf("move of %q: %v", row.Doc.Key, err)
	}
	if m == nil {
		return nil
	}
	for _, u := range op.GetUnits() {
		if leaves(m, u.GetEnv()) {
			return invalidf("move of %q: environment %q is leaving and planned", row.Doc.Key, u.GetEnv())
		}
	}
	if err := c.checkLeaving(row, m); err != nil {
		return err
	}
	row.Move = m
	return nil
}

func (c *call) checkLeaving(d *Deployment, m *pmpb.Move) error {
	live := map[string]bool{}
	for _, u := range c.view.UnitsByDeployment(d.UID) {
		live[u.GetEnv()] = live[u.GetEnv()] || !u.GetTombstone()
	}
	for _, l := range m.GetLeaving() {
		if !live[l.GetEnv()] {
			return invalidf("move of %q: it has no unit in environment %q to leave", d.Doc.Key, l.GetEnv())
		}
	}
	return nil
}

// stepMove stores what is left of a move, withdraws at most one unit and changes others. A
// unit is withdrawn only when another one is there for it: that is held against the state as
// it is when the command takes effect, and not only when it was made.
func stepMove(c *call, op *pmpb.StepMove) error {
	have := c.view.Deployment(op.GetKey())
	if have == nil || have.UID != op.GetUid() {
		return &NotFoundError{Table: TableDeployments, Key: op.GetKey()}
	}
	if err := checkMove(op.GetMove()); err != nil {
		return invalidf("move of %q: %v", op.GetKey(), err)
	}
	for _, l := range op.GetMove().GetLeaving() {
		if !have.Leaves(l.GetEnv()) || l.GetEnv() == op.GetWithdraw() {
			return invalidf("move of %q: environment %q was not leaving, or leaves now", op.GetKey(), l.GetEnv())
		}
	}
	for _, l := range have.Move.GetLeaving() {
		if l.GetEnv() != op.GetWithdraw() && !leaves(op.GetMove(), l.GetEnv()) {
			return invalidf("move of %q: environment %q is not withdrawn and does not leave any more", op.GetKey(), l.GetEnv())
		}
	}
	row := *have
	row.Move, row.ModifyIndex = op.GetMove(), c.index
	if err := c.withdraw(&row, have, op); err != nil {
		return err
	}
	for _, u := range op.GetUnits() {
		if have.Leaves(u.GetEnv()) {
			return invalidf("move of %q: the unit of environment %q, which is leaving, is not changed", op.GetKey(), u.GetEnv())
		}
	}
	c.put(atDeployments, &row)
	c.tellMove(have, &row)
	return c.stepUnits(&row, op.GetUnits())
}

// withdraw makes a tombstone of the unit of a leaving environment.
func (c *call) withdraw(row, have *Deployment, op *pmpb.StepMove) error {
	env, by := op.GetWithdraw(), op.GetReplacement()
	if env == "" {
		return nil
	}
	if !have.Leaves(env) || have.Leaves(by) {
		return invalidf("move of %q: environment %q is not leaving, or its replacement %q is", op.GetKey(), env, by)
	}
	var old, other *pmpb.Unit
	for _, u := range c.view.UnitsByDeployment(have.UID) {
		switch {
		case u.GetTombstone():
		case u.GetEnv() == env:
			old = u
		case u.GetEnv() == by:
			other = u
		}
	}
	if old == nil {
		return invalidf("move of %q: it has no unit in environment %q to withdraw", op.GetKey(), env)
	}
	if other == nil || UnitCondition(other) != model.ConditionRunning ||
		c.view.Cluster(by).GetHealth() != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
		return invalidf("move of %q: environment %q is not available and cannot take the place of %q", op.GetKey(), by, env)
	}
	c.putUnit(old, c.bury(old, have.Generation))
	c.tell(&pmpb.TimelineEvent{
		DeploymentKey: row.Doc.Key, DeploymentUid: row.UID, Type: EventReplaced, Env: env, Generation: row.Generation,
		Message: fmt.Sprintf("%s is available and takes the place of %s", by, env),
	})
	c.tellWithdrawn(row, []string{env})
	return nil
}

// tellMove tells how a move has begun, is held, or has ended.
func (c *call) tellMove(old, next *Deployment) {
	var was *pmpb.Move
	if old != nil {
		was = old.Move
	}
	now := next.Move
	var began []string
	reason := ""
	for _, l := range now.GetLeaving() {
		if leaves(was, l.GetEnv()) {
			continue
		}
		text := l.GetEnv()
		if l.GetReplacement() != "" {
			text += " for " + l.GetReplacement()
		}
		began, reason = append(began, text), MoveReasonName(l.GetReason())
	}
	if len(began) > 0 {
		c.tellOf(next, EventMoveStarted, reason, "leaves "+strings.Join(began, ", "))
	}
	if !slices.Equal(was.GetVoters(), now.GetVoters()) && len(was.GetVoters()) > 0 && len(now.GetVoters()) > 0 {
		c.tellOf(next, EventVotesChanged, "", "votes are held by "+strings.Join(now.GetVoters(), ", "))
	}
	if h := now.GetHeld(); h != nil && (h.GetCode() != was.GetHeld().GetCode() || h.GetEnv() != was.GetHeld().GetEnv()) {
		c.tell(&pmpb.TimelineEvent{
			DeploymentKey: next.Doc.Key, DeploymentUid: next.UID, Type: EventMoveHeld, Env: h.GetEnv(),
			Reason: h.GetCode(), Message: h.GetMessage(), Generation: next.Generation,
		})
	}
	if len(was.GetLeaving()) > 0 && len(now.GetLeaving()) == 0 {
		c.tellOf(next, EventMoveComplete, "", "")
	}
}

// moveReasons are the names of the reasons for people.
var moveReasons = map[pmpb.MoveReason]string{
	pmpb.MoveReason_MOVE_REASON_UPDATE:   "Update",
	pmpb.MoveReason_MOVE_REASON_REPLAN:   "Replan",
	pmpb.MoveReason_MOVE_REASON_DRAIN:    "Drain",
	pmpb.MoveReason_MOVE_REASON_FAILOVER: "Failover",
	pmpb.MoveReason_MOVE_REASON_RETURN:   "Return",
}

// MoveReasonName is the name of a reason for people; empty for none.
func MoveReasonName(r pmpb.MoveReason) string { return moveReasons[r] }

// partsOf are the messages of a move that steer the state machine.
func partsOf(m *pmpb.Move) []proto.Message {
	out := []proto.Message{m, m.GetHeld()}
	for _, l := range m.GetLeaving() {
		out = append(out, l)
	}
	for _, l := range m.GetLost() {
		out = append(out, l)
	}
	return out
}

// checkMove refuses a move that makes no sense by itself. nil is valid.
func checkMove(m *pmpb.Move) error {
	if n := max(len(m.GetLeaving()), len(m.GetJoining()), len(m.GetVoters()), len(m.GetLost())); n > maxMoveEnvs {
		return fmt.Errorf("it has %d environments, at most %d are allowed", n, maxMoveEnvs)
	}
	if n := len(m.GetFailovers()); n > MaxFailovers {
		return fmt.Errorf("it remembers %d failovers, at most %d are allowed", n, MaxFailovers)
	}
	for _, t := range append(slices.Clone(m.GetFailovers()), m.GetStarted(), m.GetHeld().GetSince()) {
		if !valid(t) {
			return fmt.Errorf("it has a time that is out of range")
		}
	}
	var leaving, lost []string
	for _, l := range m.GetLeaving() {
		leaving = append(leaving, l.GetEnv())
		if l.GetReplacement() != "" {
			if err := checkKey("replacement", l.GetReplacement()); err != nil {
				return err
			}
		}
		if !valid(l.GetSince()) || moveReasons[l.GetReason()] == "" {
			return fmt.Errorf("environment %q leaves for no reason that is known, or at no time", l.GetEnv())
		}
	}
	for _, l := range m.GetLost() {
		if lost = append(lost, l.GetEnv()); !valid(l.GetLeft()) {
			return fmt.Errorf("it has a time that is out of range")
		}
	}
	for _, l := range m.GetLost() {
		if l.GetReplacement() != "" {
			if err := checkKey("replacement", l.GetReplacement()); err != nil {
				return err
			}
		}
	}
	for _, names := range [][]string{leaving, lost, m.GetJoining(), m.GetVoters()} {
		if err := checkNames(names); err != nil {
			return err
		}
	}
	return checkHeld(m.GetHeld())
}

func checkHeld(h *pmpb.Held) error {
	switch {
	case h == nil:
		return nil
	case h.GetCode() == "" || max(len(h.GetCode()), len(h.GetMessage())) > maxMoveText:
		return fmt.Errorf("it is held for no reason, or has a text of more than %d bytes", maxMoveText)
	case h.GetEnv() == "":
		return nil
	default:
		return checkKey("environment", h.GetEnv())
	}
}

func checkNames(names []string) error {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if err := checkKey("environment", name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("environment %q is named twice", name)
		}
		seen[name] = true
	}
	return nil
}
