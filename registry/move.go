package registry

import (
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/move"
)

// checkFailoverLevel refuses a policy while there are servers that cannot read it: they
// would drop it, and their state would differ.
func checkFailoverLevel(snap *fsm.Snapshot, p *model.FailoverPolicy) error {
	if level := snap.FeatureLevel(); p != nil && level < fsm.FailoverFrom {
		return errorf(FailedPrecondition, "failover needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.FailoverFrom, level)
	}
	return nil
}

// leave decides what becomes of environments in which a deployment runs and which are not in
// the plan of a wish: they go at once where what stays is available and enough, else they are
// leaving until others take their place. nil where there is nothing to remember.
func (r *Registry) leave(snap *fsm.Snapshot, fleet *scheduler.Fleet, w *wish, reason pmpb.MoveReason) *pmpb.Move {
	have := snap.DeploymentByUID(w.uid)
	if have == nil || snap.FeatureLevel() < fsm.FailoverFrom {
		return nil
	}
	if reason == pmpb.MoveReason_MOVE_REASON_UNSPECIFIED {
		reason = pmpb.MoveReason_MOVE_REASON_UPDATE
	}
	next := &pmpb.Move{Failovers: have.Move.GetFailovers(), Lost: stillLost(have.Move, w)}
	units := map[string]*pmpb.Unit{}
	for _, u := range snap.UnitsByDeployment(w.uid) {
		if !u.GetTombstone() {
			units[u.GetEnv()] = u
		}
	}
	for _, env := range sortedKeys(units) {
		if !slices.Contains(w.plan.Clusters, env) {
			next.Leaving = append(next.Leaving, r.leaving(have.Move, env, reason))
		}
	}
	next.Voters = votersOf(have, w, units)
	for _, env := range w.plan.Clusters {
		withoutVote := len(next.GetVoters()) > 0 && !slices.Contains(next.GetVoters(), env)
		if units[env] == nil || withoutVote || slices.Contains(have.Move.GetJoining(), env) {
			next.Joining = append(next.Joining, env)
		}
	}
	pair(next)
	if !moves(next, w.plan.Clusters) {
		return settled(next)
	}
	if state := stateOfMove(snap, fleet, w.uid, next, w.plan.Kind, w.plan.Target); len(next.GetJoining()) == 0 && asked(reason) && move.AtOnce(state) {
		w.guards = append(w.guards, witnesses(snap, w.uid, state)...)
		return settled(next)
	}
	if next.Started = have.Move.GetStarted(); next.Started == nil {
		next.Started = timestamppb.New(r.now())
	}
	return next
}

// Moving reports that a deployment is on its way: there are environments that it has not left
// yet, or that have no vote yet.
func Moving(m *pmpb.Move) bool { return len(m.GetLeaving()) > 0 || len(m.GetVoters()) > 0 }

// moves reports that with these environments in its plan something is still to be done.
func moves(m *pmpb.Move, planned []string) bool {
	return len(m.GetLeaving()) > 0 || len(m.GetVoters()) > 0 &&
		slices.ContainsFunc(planned, func(env string) bool { return !slices.Contains(m.GetVoters(), env) })
}

// asked reports that a user wishes that environments are left.
func asked(reason pmpb.MoveReason) bool {
	return reason == pmpb.MoveReason_MOVE_REASON_UPDATE || reason == pmpb.MoveReason_MOVE_REASON_REPLAN
}

// leaving makes the entry of an environment, which keeps its reason and time if it has been
// leaving before.
func (r *Registry) leaving(old *pmpb.Move, env string, reason pmpb.MoveReason) *pmpb.Leaving {
	for _, l := range old.GetLeaving() {
		if l.GetEnv() == env {
			return proto.CloneOf(l)
		}
	}
	return &pmpb.Leaving{Env: env, Reason: reason, Since: timestamppb.New(r.now())}
}

// pair gives each leaving environment one of those that join, as long as there are some.
func pair(m *pmpb.Move) {
	free := slices.Clone(m.GetJoining())
	for _, l := range m.GetLeaving() {
		if i := slices.Index(free, l.GetReplacement()); i >= 0 {
			free = slices.Delete(free, i, i+1)
		} else {
			l.Replacement = ""
		}
	}
	for _, l := range m.GetLeaving() {
		if l.GetReplacement() == "" && len(free) > 0 {
			l.Replacement, free = free[0], free[1:]
		}
	}
}

// votersOf are those who hold votes while a deployment with a quorum moves: those who held
// them before, as far as they still are part of it.
func votersOf(have *fsm.Deployment, w *wish, units map[string]*pmpb.Unit) []string {
	if w.plan.Kind != scheduler.Quorum {
		return nil
	}
	voters := have.Move.GetVoters()
	if len(voters) == 0 {
		voters = sortedKeys(units)
	}
	var out []string
	for _, env := range voters {
		if units[env] != nil {
			out = append(out, env)
		}
	}
	return out
}

// stillLost are the environments that a deployment may go back to: it does not run there, and
// wishes to.
func stillLost(m *pmpb.Move, w *wish) []*pmpb.LostEnv {
	var out []*pmpb.LostEnv
	if p := w.doc.Failover; !p.Automatic() || p.OnReturn != model.OnReturnMoveBack {
		return nil
	}
	for _, l := range m.GetLost() {
		if !slices.Contains(w.plan.Clusters, l.GetEnv()) {
			out = append(out, l)
		}
	}
	return out
}

// settled is what is left of a move when nothing leaves any more; nil when that is nothing.
func settled(m *pmpb.Move) *pmpb.Move {
	m.Leaving, m.Joining, m.Voters, m.Started, m.Held = nil, nil, nil, nil, nil
	if len(m.GetFailovers()) == 0 && len(m.GetLost()) == 0 {
		return nil
	}
	return m
}

// stateOfMove is a move as package move sees it.
func stateOfMove(snap *fsm.Snapshot, fleet *scheduler.Fleet, uid string, m *pmpb.Move, kind scheduler.Kind, target float64) move.State {
	const rounding = 1e-15 // a target of 0.99 must not fail on the last bit of 0.01
	out := move.State{
		Voting: kind == scheduler.Quorum && len(m.GetVoters()) > 0, Permitted: 1 - target + rounding,
		Loss: func(up []string, members int) float64 { return fleet.Loss(kind, up, members) },
	}
	for _, u := range snap.UnitsByDeployment(uid) {
		if !u.GetTombstone() {
			out.Members = append(out.Members, memberOf(u, snap.Cluster(u.GetEnv()), m))
		}
	}
	for _, env := range m.GetJoining() {
		if !slices.ContainsFunc(out.Members, func(o move.Member) bool { return o.Name == env }) {
			out.Members = append(out.Members, move.Member{Name: env, Detail: "it is not sent yet"})
		}
	}
	return out
}

func memberOf(u *pmpb.Unit, c *pmpb.Cluster, m *pmpb.Move) move.Member {
	health := c.GetHealth()
	healthy := health == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	reported := u.GetRuntime().GetStatus().GetCondition() == oaaspb.DeploymentCondition_RUNNING
	out := move.Member{
		Name: u.GetEnv(), Lost: fsm.Unreachable(health),
		Voter:     len(m.GetVoters()) == 0 || slices.Contains(m.GetVoters(), u.GetEnv()),
		Available: healthy && fsm.UnitCondition(u) == model.ConditionRunning,
		// What has older content, or comes from a cluster of which nothing is known now, may
		// serve all the same.
		Serves: reported && !fsm.Unreachable(health),
	}
	if slices.Contains(m.GetJoining(), u.GetEnv()) {
		out.Available = healthy && fsm.UnitComplete(u)
	}
	for _, l := range m.GetLeaving() {
		if l.GetEnv() == u.GetEnv() {
			out.Leaving, out.Replacement = true, l.GetReplacement()
		}
	}
	if !out.Available {
		out.Detail = unavailableBecause(u, c, healthy)
	}
	return out
}

// ruleOf reads from a stored plan what it takes for the deployment to be available. Without
// one that can be read it is a majority.
func ruleOf(p *fsm.Plan) (scheduler.Kind, float64) {
	stored := struct {
		Kind   scheduler.Kind `json:"kind"`
		Target *float64       `json:"target"`
	}{}
	if p == nil || json.Unmarshal(p.Document, &stored) != nil || stored.Target == nil {
		return scheduler.Quorum, scheduler.DefaultTarget
	}
	return stored.Kind, *stored.Target
}
