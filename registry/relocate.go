package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/move"
)

// ReturnAfter is how long an environment that was lost must have been healthy without
// interruption before a deployment goes back to it.
const ReturnAfter = 10 * time.Minute

// Why a deployment does not begin to leave an environment.
const (
	codeNamed   = "EnvironmentNamed"
	codeNoPlace = "NoPlace"
	codeWindow  = "OutsideWindow"
	codeBudget  = "BudgetExhausted"
)

// Relocation is a deployment that is to leave an environment, or to go back to one.
type Relocation struct {
	Key string
	// Reason is MOVE_REASON_FAILOVER, _DRAIN, _RETURN, or _REPLAN when it is stuck on its way;
	// unspecified when nothing is to be done any more of what it was held for.
	Reason pmpb.MoveReason
}

// Relocations lists the deployments that are to be moved now: those of lost clusters first,
// then those of drained ones, those that go back, and those that are stuck, each by key. While the fleet looks
// partitioned there are only those that operators ask for.
func (r *Registry) Relocations(snap *fsm.Snapshot) []Relocation {
	if snap.FeatureLevel() < fsm.FailoverFrom {
		return nil
	}
	suspected := FleetVerdict(snap, r.now()).Suspected
	troubled := slices.ContainsFunc(snap.Clusters(), func(c *pmpb.Cluster) bool { return fsm.Unreachable(c.GetHealth()) || c.GetPolicy().GetDraining() })
	var out []Relocation
	for _, dep := range snap.Deployments() {
		if !troubled && dep.Move == nil {
			continue
		}
		if reason, due := r.due(snap, dep, suspected); due {
			out = append(out, Relocation{Key: dep.Doc.Key, Reason: reason})
		}
	}
	order := []pmpb.MoveReason{
		pmpb.MoveReason_MOVE_REASON_FAILOVER, pmpb.MoveReason_MOVE_REASON_DRAIN, pmpb.MoveReason_MOVE_REASON_RETURN,
		pmpb.MoveReason_MOVE_REASON_REPLAN, pmpb.MoveReason_MOVE_REASON_UNSPECIFIED,
	}
	slices.SortStableFunc(out, func(a, b Relocation) int {
		return cmp.Compare(slices.Index(order, a.Reason), slices.Index(order, b.Reason))
	})
	return out
}

// due says whether a deployment is to be moved, and why.
func (r *Registry) due(snap *fsm.Snapshot, dep *fsm.Deployment, suspected bool) (pmpb.MoveReason, bool) {
	why := pmpb.MoveReason_MOVE_REASON_UNSPECIFIED
	for _, c := range r.causes(snap, dep, suspected) {
		if why = max(why, c.reason); why == pmpb.MoveReason_MOVE_REASON_FAILOVER {
			break
		}
	}
	switch {
	case why != pmpb.MoveReason_MOVE_REASON_UNSPECIFIED:
		return why, true
	case !suspected && r.comesBack(snap, dep) != nil:
		return pmpb.MoveReason_MOVE_REASON_RETURN, true
	case !suspected && r.stuck(dep):
		return pmpb.MoveReason_MOVE_REASON_REPLAN, true
	default:
		return why, dep.Move.GetHeld() != nil && !Moving(dep.Move)
	}
}

// cause is an environment that a deployment is to leave.
type cause struct {
	env    string
	reason pmpb.MoveReason
}

// causes are the environments of a plan that are to be left, those that are lost first.
func (r *Registry) causes(snap *fsm.Snapshot, dep *fsm.Deployment, suspected bool) []cause {
	var lost, drained []cause
	for _, u := range snap.UnitsByDeployment(dep.UID) {
		env := u.GetEnv()
		if u.GetTombstone() || dep.Leaves(env) {
			continue
		}
		switch c := snap.Cluster(env); {
		case !suspected && dep.Doc.Failover.Automatic() && r.givenUp(c, dep.Doc.Failover):
			lost = append(lost, cause{env, pmpb.MoveReason_MOVE_REASON_FAILOVER})
		case c.GetPolicy().GetDraining():
			drained = append(drained, cause{env, pmpb.MoveReason_MOVE_REASON_DRAIN})
		}
	}
	return append(lost, drained...)
}

// givenUp reports that a cluster is lost for as long as a deployment asks for.
func (r *Registry) givenUp(c *pmpb.Cluster, p *model.FailoverPolicy) bool {
	return c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE && !r.now().Before(lostSince(c).Add(p.Wait()))
}

// lostSince is when a cluster that cannot be reached was last heard, as far as that is known.
func lostSince(c *pmpb.Cluster) time.Time {
	if c.GetDisconnectedSince() != nil {
		return c.GetDisconnectedSince().AsTime()
	}
	if n := len(c.GetOutages()); n > 0 && c.GetOutages()[n-1].GetEnd() == nil {
		return c.GetOutages()[n-1].GetStart().AsTime()
	}
	if c.GetLastSeen() != nil {
		return c.GetLastSeen().AsTime()
	}
	return c.GetHealthSince().AsTime()
}

// comesBack gives an environment that a deployment was moved away from and may go back to
// now; nil without one.
func (r *Registry) comesBack(snap *fsm.Snapshot, dep *fsm.Deployment) *pmpb.LostEnv {
	p := dep.Doc.Failover
	if !p.Automatic() || p.OnReturn != model.OnReturnMoveBack || Moving(dep.Move) {
		return nil
	}
	for _, l := range dep.Move.GetLost() {
		c := snap.Cluster(l.GetEnv())
		well := c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && !c.GetPolicy().GetDraining() && !c.GetPolicy().GetCordoned()
		if well && !r.now().Before(c.GetHealthSince().AsTime().Add(ReturnAfter)) {
			return l
		}
	}
	return nil
}

// Relocate plans a deployment without the environments that it is to leave, or with the one
// that has come back, and commits that: from then on it is moving, see AdvanceMove. Where that
// is not possible or not permitted now, it notes why. term is as for AdvanceMove.
func (r *Registry) Relocate(ctx context.Context, term uint64, key string) (*MoveProgress, error) {
	return r.stepping(ctx, term, key, func(snap *fsm.Snapshot, dep *fsm.Deployment) (*pmpb.Command, *MoveProgress, error) {
		suspected := FleetVerdict(snap, r.now()).Suspected
		causes := r.causes(snap, dep, suspected)
		back := r.comesBack(snap, dep)
		switch {
		case len(causes) > 0 && causes[0].reason == pmpb.MoveReason_MOVE_REASON_FAILOVER:
			return r.relocate(snap, dep, causes)
		case !suspected && r.stuck(dep):
			return r.loosen(snap, dep)
		case len(causes) > 0:
			return r.relocate(snap, dep, causes)
		case back != nil && !suspected:
			return r.goBack(snap, dep, back)
		case dep.Move.GetHeld() != nil && !Moving(dep.Move):
			return released(dep), &MoveProgress{}, nil
		default:
			return nil, &MoveProgress{}, nil
		}
	})
}

// relocate moves a deployment away. What is lost does not wait for windows, rollouts or other
// moves; what is drained does.
func (r *Registry) relocate(snap *fsm.Snapshot, dep *fsm.Deployment, causes []cause) (*pmpb.Command, *MoveProgress, error) {
	first := causes[0]
	held := func(code, format string, args ...any) (*pmpb.Command, *MoveProgress, error) {
		if Moving(dep.Move) {
			return nil, &MoveProgress{Held: code}, nil // what is under way says why that does not go on
		}
		return r.heldBecause(dep, first.env, first.reason, code, fmt.Sprintf(format, args...))
	}
	if named(snap, dep.Doc.Key) {
		return held(codeNamed, "%s: the deployment names its environments; name others, or none", first.env)
	}
	if first.reason == pmpb.MoveReason_MOVE_REASON_FAILOVER {
		causes = slices.DeleteFunc(causes, func(c cause) bool { return c.reason != first.reason })
		if next := r.budget(dep); next.After(r.now()) {
			return held(codeBudget, "%s: it was moved too often, and stays until %s", first.env, next.UTC().Format(time.RFC3339))
		}
	} else if len(dep.Move.GetLeaving()) > 0 {
		return nil, &MoveProgress{}, nil // after what is under way
	} else {
		code, why, room := r.permits(snap, dep, len(causes))
		if code != "" {
			return held(code, "%s: %s", first.env, why)
		}
		causes = causes[:room]
	}
	var away []string
	drains := map[string]bool{}
	for _, c := range causes {
		away = append(away, c.env)
		drains[c.env] = true
	}
	fleet, err := prepare(snap, nil, drains)
	if err != nil {
		return nil, nil, err
	}
	current := slices.DeleteFunc(kept(snap, dep.UID), func(env string) bool { return drains[env] })
	w, err := r.planAgain(snap, dep, intent{reason: first.reason, fleet: fleet, current: current})
	if err != nil {
		return held(codeNoPlace, "%s: %s", first.env, textOf(err))
	}
	if why := r.worse(snap, fleet, dep, w); why != "" {
		return held(codeNoPlace, "%s: %s", first.env, why)
	}
	if first.reason == pmpb.MoveReason_MOVE_REASON_FAILOVER {
		r.remember(w, away)
	}
	return r.beginMove(dep, w, first.reason, strings.Join(away, " ")+" → "+strings.Join(w.plan.Clusters, " "))
}

// stuckAfter is for how long a deployment is held because what stays is not enough before it
// is planned anew.
const stuckAfter = 5 * time.Minute

// stuck reports that a deployment does not get any further on its way.
func (r *Registry) stuck(dep *fsm.Deployment) bool {
	h := dep.Move.GetHeld()
	return h.GetCode() == move.CodeAvailability && len(dep.Move.GetLeaving()) > 0 && !r.now().Before(h.GetSince().AsTime().Add(stuckAfter))
}

// loosen plans a deployment anew that is stuck on its way: where it goes is not enough, but
// meanwhile what it leaves may be well again, or something else may have come. Nothing is
// written unless that is better.
func (r *Registry) loosen(snap *fsm.Snapshot, dep *fsm.Deployment) (*pmpb.Command, *MoveProgress, error) {
	as := &MoveProgress{Held: dep.Move.GetHeld().GetCode()}
	if code, _, _ := r.permits(snap, dep, 1); code != "" || named(snap, dep.Doc.Key) {
		return nil, as, nil
	}
	drains, current := map[string]bool{}, kept(snap, dep.UID)
	for _, c := range snap.Clusters() {
		drains[c.GetName()] = c.GetPolicy().GetDraining()
		well := c.GetHealth() == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && !c.GetPolicy().GetDraining()
		if dep.Leaves(c.GetName()) && well {
			current = append(current, c.GetName())
		}
	}
	fleet, err := prepare(snap, nil, drains)
	if err != nil {
		return nil, nil, err
	}
	goal := dep.Doc.TargetEnvs
	w, err := r.planAgain(snap, dep, intent{reason: pmpb.MoveReason_MOVE_REASON_REPLAN, fleet: fleet, current: current})
	if err == nil && w.plan.Loss < fleet.Loss(w.plan.Kind, goal, len(goal))*(1-1e-9) {
		return r.beginMove(dep, w, pmpb.MoveReason_MOVE_REASON_REPLAN, "stuck; now to "+strings.Join(w.plan.Clusters, " "))
	}
	return nil, as, nil
}

// textOf is the message of a refusal for people.
func textOf(err error) string { return strings.TrimPrefix(err.Error(), "Invalid target envs: ") }

// budget gives the time before which a deployment is not moved because of what is lost.
func (r *Registry) budget(dep *fsm.Deployment) time.Time {
	times := make([]time.Time, 0, len(dep.Move.GetFailovers()))
	for _, t := range dep.Move.GetFailovers() {
		times = append(times, t.AsTime())
	}
	return move.Budget{PerHour: dep.Doc.Failover.PerHour()}.Next(times, r.now())
}

// permits says whether a deployment may be moved for something that can wait, and in how many
// environments at a time, or why not.
func (r *Registry) permits(snap *fsm.Snapshot, dep *fsm.Deployment, wanted int) (code, why string, room int) {
	if row := snap.Rollout(dep.Doc.Key); row != nil && !fsm.RolloutSettled(row.GetPhase()) && row.GetPhase() != pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED {
		return codeRollout, "waits until the rollout has ended", 0
	}
	p := dep.Doc.Placement
	if p == nil {
		return "", "", wanted
	}
	schedule, err := scheduleOf(p.Windows)
	if err != nil {
		return codeWindow, textOf(err), 0
	}
	if open, next := schedule.Open(r.now()); !open {
		return codeWindow, "it may be moved in the windows of its placement only; the next one opens " + next.UTC().Format(time.RFC3339), 0
	}
	if d := p.Disruption; d != nil && number(&d.MaxMoves) > 0 {
		return "", "", min(wanted, number(&d.MaxMoves))
	}
	return "", "", wanted
}

// planAgain decides about a deployment as it is, like decideAgain.
func (r *Registry) planAgain(snap *fsm.Snapshot, dep *fsm.Deployment, want intent) (*wish, error) {
	if now := snap.Rollout(dep.Doc.Key); underWay(now) {
		var err error
		if want.cls, err = decodeClass(now.GetClass()); err != nil {
			return nil, fromStore(err)
		}
	}
	doc := dep.Doc.Clone()
	unsettle(doc, dep.UID, false)
	w, err := r.decideDeployment(snap, doc, dep.UID, want)
	if err != nil {
		return nil, err
	}
	return w, r.stage(snap, dep, w)
}

// worse says why a deployment had better stay where it is: elsewhere it would be less
// available than it is now, and than it is to be, or it would only lose a place.
func (r *Registry) worse(snap *fsm.Snapshot, fleet *scheduler.Fleet, dep *fsm.Deployment, w *wish) string {
	joins := slices.ContainsFunc(w.plan.Clusters, func(env string) bool { return liveUnits(snap, dep.UID)[env] == nil })
	switch {
	case w.plan.TargetMet:
		return ""
	case !joins:
		return "no other environment can take its place"
	case w.plan.Loss > lossNow(snap, fleet, dep, w.plan.Kind, w.plan.Target)*(1+1e-9):
		return fmt.Sprintf("without it the availability would be %.6g, the target is %.6g", w.plan.Achieved, w.plan.Target)
	default:
		return ""
	}
}

// remember notes a failover for the budget, and what may be gone back to.
func (r *Registry) remember(w *wish, away []string) {
	if w.move == nil {
		w.move = &pmpb.Move{}
	}
	now := r.now()
	times := slices.DeleteFunc(slices.Clone(w.move.Failovers), func(t *timestamppb.Timestamp) bool { return now.Sub(t.AsTime()) >= move.Memory })
	times = append(times, timestamppb.New(now))
	w.move.Failovers = times[max(len(times)-fsm.MaxFailovers, 0):]
	if w.doc.Failover.OnReturn != model.OnReturnMoveBack {
		return
	}
	lost := slices.DeleteFunc(slices.Clone(w.move.Lost), func(l *pmpb.LostEnv) bool { return slices.Contains(away, l.GetEnv()) })
	for _, env := range away {
		l := &pmpb.LostEnv{Env: env, Left: timestamppb.New(now)}
		for _, leaving := range w.move.GetLeaving() {
			if leaving.GetEnv() == env {
				l.Replacement = leaving.GetReplacement()
			}
		}
		lost = append(lost, l)
	}
	w.move.Lost = lost
}

// goBack plans a deployment as if it ran where it did before an environment was lost.
func (r *Registry) goBack(snap *fsm.Snapshot, dep *fsm.Deployment, back *pmpb.LostEnv) (*pmpb.Command, *MoveProgress, error) {
	held := func(code, why string) (*pmpb.Command, *MoveProgress, error) {
		return r.heldBecause(dep, back.GetEnv(), pmpb.MoveReason_MOVE_REASON_RETURN, code, back.GetEnv()+": "+why)
	}
	if code, why, _ := r.permits(snap, dep, 1); code != "" {
		return held(code, why)
	}
	if next := r.budget(dep); next.After(r.now()) {
		return held(codeBudget, "it was moved too often, and stays until "+next.UTC().Format(time.RFC3339))
	}
	fleet, err := r.fleetOf(snap)
	if err != nil {
		return nil, nil, err
	}
	current := slices.DeleteFunc(kept(snap, dep.UID), func(env string) bool { return env == back.GetReplacement() })
	current = append(current, back.GetEnv())
	w, err := r.planAgain(snap, dep, intent{reason: pmpb.MoveReason_MOVE_REASON_RETURN, fleet: fleet, current: current})
	switch {
	case err != nil:
		return held(codeNoPlace, textOf(err))
	case !slices.Contains(w.plan.Clusters, back.GetEnv()):
		// It would not be chosen any more. It stays, and this is not asked again.
		return forgotten(dep, back), &MoveProgress{Stepped: true}, nil
	default:
		return r.beginMove(dep, w, pmpb.MoveReason_MOVE_REASON_RETURN, "back to "+back.GetEnv())
	}
}

// forgotten takes an environment from those that are gone back to.
func forgotten(dep *fsm.Deployment, back *pmpb.LostEnv) *pmpb.Command {
	cmd := released(dep)
	op := cmd.GetStepMove()
	if op.Move != nil {
		op.Move.Lost = slices.DeleteFunc(op.Move.Lost, func(l *pmpb.LostEnv) bool { return l.GetEnv() == back.GetEnv() })
		if !Moving(op.Move) {
			op.Move = settled(op.Move)
		}
	}
	return cmd
}

// beginMove makes the command that commits another plan.
func (r *Registry) beginMove(dep *fsm.Deployment, w *wish, reason pmpb.MoveReason, detail string) (*pmpb.Command, *MoveProgress, error) {
	d, err := w.command()
	if err != nil {
		return nil, nil, fromStore(err)
	}
	d.cmd.Note = fsm.NewNote("deployment."+strings.ToLower(fsm.MoveReasonName(reason)), dep.Doc.Key, detail)
	d.cmd.Note.Agent = agentLeader
	return d.cmd, &MoveProgress{Stepped: true, Begun: reason}, nil
}

// FleetVerdict says whether so many clusters are lost at once that the control plane itself
// is more likely to be cut off. A cluster that has just come back counts for a while, so that
// it does not go to and fro; those that operators have cordoned or drain do not count.
func FleetVerdict(snap *fsm.Snapshot, now time.Time) move.Verdict {
	var fleet []move.Cluster
	for _, c := range snap.Clusters() {
		if c.GetPolicy().GetCordoned() || c.GetPolicy().GetDraining() {
			continue
		}
		region, _ := placeOf(c)
		fleet = append(fleet, move.Cluster{Name: c.GetName(), Region: region, Lost: fsm.Unreachable(c.GetHealth()) || justBack(c, now)})
	}
	return move.Judge(fleet)
}

// fleetSettles is for how long a cluster that has come back still counts as lost.
const fleetSettles = time.Minute

// justBack reports that a cluster is healthy for a short time only, after an outage.
func justBack(c *pmpb.Cluster, now time.Time) bool {
	n := len(c.GetOutages())
	if n == 0 || c.GetHealth() != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
		return false
	}
	end := c.GetOutages()[n-1].GetEnd()
	return end != nil && now.Sub(end.AsTime()) < fleetSettles
}
