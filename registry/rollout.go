package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/rollout"
)

// checkRolloutLevel refuses a strategy while there are servers that cannot read it: they
// would drop it, and their state would differ.
func checkRolloutLevel(snap *fsm.Snapshot, s *model.RolloutStrategy) error {
	if level := snap.FeatureLevel(); s != nil && level < fsm.RolloutFrom {
		return errorf(FailedPrecondition, "rollout needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.RolloutFrom, level)
	}
	return nil
}

// stage decides how a wish goes out: whether it makes another revision, and whether that
// comes in waves. It leaves in w.units what the environments are to run from now on.
func (r *Registry) stage(snap *fsm.Snapshot, have *fsm.Deployment, w *wish) error {
	if snap.FeatureLevel() < fsm.RolloutFrom {
		return nil
	}
	if have == nil {
		w.revised = &pmpb.Revised{Summary: "created"}
		return nil
	}
	now, live := snap.Rollout(have.Doc.Key), liveUnits(snap, have.UID)
	if now != nil {
		w.guards = append(w.guards, guard(pmpb.Guard_TABLE_ROLLOUT, have.Doc.Key, now.GetModifyIndex()))
	}
	changed, err := w.changesRelease(have, now, live)
	if err != nil {
		return err
	}
	if changed {
		w.revised = &pmpb.Revised{Summary: summarize(have.Doc, w.doc), Outcome: outcomeOf(have, now)}
	}
	switch {
	case w.doc.Rollout == nil:
		return nil // to all at once; what was under way ends with it
	case changed:
		return r.beginRollout(snap, have, now, live, w)
	case now == nil, now.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK:
		return nil // a wish that does not come back to what was taken back has left it behind
	case underWay(now):
		return r.restage(now, live, w)
	default:
		w.rollout = proto.CloneOf(now)
		w.rollout.Envs = keepEnvs(now, w.units, now.GetRevision(), uint32(fsm.RolloutWaves(now)-1))
		return nil
	}
}

// outcomeOf says how the present revision of a deployment has ended.
func outcomeOf(have *fsm.Deployment, now *pmpb.Rollout) string {
	switch {
	case now.GetRevision() != have.RevisionNumber():
		return ""
	case fsm.RolloutSettled(now.GetPhase()):
		return fsm.OutcomeComplete
	case now.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
		return fsm.OutcomeFailed
	default:
		return fsm.OutcomeSuperseded
	}
}

// keepEnvs gives the environments of a rollout that are still in the plan, and after them
// those that have come, with a revision and in a wave.
func keepEnvs(now *pmpb.Rollout, planned []*pmpb.PlannedUnit, revision uint64, wave uint32) []*pmpb.RolloutEnv {
	var out []*pmpb.RolloutEnv
	wanted := map[string]bool{}
	for _, p := range planned {
		wanted[p.GetEnv()] = true
	}
	for _, e := range now.GetEnvs() {
		if wanted[e.GetEnv()] {
			out = append(out, proto.CloneOf(e))
			delete(wanted, e.GetEnv())
		}
	}
	for _, p := range planned {
		if wanted[p.GetEnv()] {
			out = append(out, &pmpb.RolloutEnv{Env: p.GetEnv(), Wave: wave, Revision: revision})
		}
	}
	return out
}

// beginRollout lets another revision go out in waves. Nothing is sent yet: every
// environment keeps the release that it has until its turn comes, and one that is new is
// given the one that is known to work.
func (r *Registry) beginRollout(snap *fsm.Snapshot, have *fsm.Deployment, now *pmpb.Rollout, live map[string]*pmpb.Unit, w *wish) error {
	if have.Doc.ClassKey != w.doc.ClassKey {
		return errorf(FailedPrecondition, "Deployment %s runs class %s: another class cannot take its place in waves. Delete it first, or post it without rollout",
			have.Doc.Key, have.Doc.ClassKey)
	}
	from, err := stableOf(have, now, live)
	if err != nil {
		return err
	}
	next := have.RevisionNumber() + 1
	row := &pmpb.Rollout{
		Revision: next, Stable: from.number, Phase: pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING, Started: timestamppb.New(r.now()),
	}
	if row.Class, err = json.Marshal(w.cls); err != nil {
		return fromStore(err)
	}
	if row.StableClass, err = json.Marshal(from.cls); err != nil {
		return fromStore(err)
	}
	at := map[string]uint64{}
	for _, e := range now.GetEnvs() {
		at[e.GetEnv()] = e.GetRevision()
	}
	for i, target := range w.units {
		e := &pmpb.RolloutEnv{Env: target.GetEnv(), Wave: 1, Revision: from.number}
		if underWay(now) && at[target.GetEnv()] > 0 {
			e.Revision = at[target.GetEnv()]
		}
		if w.units[i], err = from.until(w, i, live[target.GetEnv()], target.GetDesired()); err != nil {
			return err
		}
		if w.units[i].GetContentHash() == target.GetContentHash() {
			e.Revision = next // it has nothing to wait for
		}
		row.Envs = append(row.Envs, e)
	}
	seen := r.observe(snap, row, live)
	slices.SortStableFunc(row.Envs, func(a, b *pmpb.RolloutEnv) int {
		// Where the change before this one was tried out, this one is, too. A cluster that
		// is not well judges nothing.
		return cmp.Or(
			-compareBools(a.GetRevision() != from.number, b.GetRevision() != from.number),
			-compareBools(seen[a.GetEnv()].Available, seen[b.GetEnv()].Available),
		)
	})
	arrange(row, limitsOf(w.doc.Rollout, w.plan.Kind, len(row.GetEnvs())))
	w.rollout = row
	return nil
}

// stable is the revision that a rollout would go back to.
type stable struct {
	number uint64
	doc    *model.OClassDeployment
	cls    *model.OClass
}

// stableOf finds the last revision that all environments had. While a rollout is under way
// that is where it began.
func stableOf(have *fsm.Deployment, now *pmpb.Rollout, live map[string]*pmpb.Unit) (*stable, error) {
	if !underWay(now) || goesBack(now) {
		cls, err := presentClass(now, live)
		if cls == nil {
			cls = &model.OClass{Key: have.Doc.ClassKey}
		}
		return &stable{number: have.RevisionNumber(), doc: have.Doc, cls: cls}, err
	}
	return storedStable(now)
}

// storedStable reads it from a rollout that is under way.
func storedStable(now *pmpb.Rollout) (*stable, error) {
	doc, err := model.DecodeDeployment(now.GetStableDocument())
	if err != nil {
		return nil, fromStore(err)
	}
	cls, err := decodeClass(now.GetStableClass())
	if err != nil {
		return nil, fromStore(err)
	}
	return &stable{number: now.GetStable(), doc: doc, cls: cls}, nil
}

// until gives what an environment is to run until its turn comes.
func (s *stable) until(w *wish, i int, live *pmpb.Unit, target *oaaspb.DeploymentUnit) (*pmpb.PlannedUnit, error) {
	if live == nil {
		return newPlanned(carryOver(buildUnit(w.uid, &w.plan.Assignments[i], s.doc, s.cls), target))
	}
	// On the way back every environment has something, and there is no stable release to make.
	present, err := fsm.Desired(live)
	if err != nil {
		return nil, fromStore(err)
	}
	return newPlanned(carryOver(present, target))
}

// restage fits a rollout that is under way to a wish of the same release: environments
// have come or gone, or there is more or less of it.
func (r *Registry) restage(now *pmpb.Rollout, live map[string]*pmpb.Unit, w *wish) error {
	from, joining := &stable{}, now.GetRevision()
	if !goesBack(now) {
		var err error
		if from, err = storedStable(now); err != nil {
			return err
		}
		joining = from.number
	}
	class, err := json.Marshal(w.cls)
	if err != nil {
		return fromStore(err)
	}
	row := proto.CloneOf(now)
	row.Class, row.StableDocument = class, nil
	row.Envs = keepEnvs(now, w.units, joining, now.GetWave()+1)
	byName := map[string]*pmpb.RolloutEnv{}
	for _, e := range row.GetEnvs() {
		byName[e.GetEnv()] = e
	}
	moved := len(row.GetEnvs()) != len(now.GetEnvs())
	for i, target := range w.units {
		e := byName[target.GetEnv()]
		if e.GetRevision() != row.GetRevision() {
			if w.units[i], err = from.until(w, i, live[e.GetEnv()], target.GetDesired()); err != nil {
				return err
			}
			if w.units[i].GetContentHash() == target.GetContentHash() {
				e.Revision = row.GetRevision()
			}
		}
		moved = moved || live[e.GetEnv()].GetContentHash() != w.units[i].GetContentHash()
	}
	arrange(row, limitsOf(w.doc.Rollout, w.plan.Kind, len(row.GetEnvs())))
	if moved && row.GetDeadline() != nil {
		r.extend(row) // what was sent has to arrive before the rollout can go on
	}
	w.rollout = row
	return nil
}

// goesBack reports that a rollout takes a deployment back to what is known to work.
func goesBack(r *pmpb.Rollout) bool { return r.GetStable() == r.GetRevision() }

// arrange puts the environments of a rollout into waves. On the way back there is one.
func arrange(row *pmpb.Rollout, l rollout.Limits) {
	row.Canary, row.MaxUnavailable = uint32(l.Canary), uint32(l.MaxUnavailable)
	row.MinHealthyTime, row.ProgressDeadline, row.RollbackOnFailure = durationpb.New(l.MinHealthy), durationpb.New(l.Deadline), l.RollBack
	envs := make([]rollout.Env, len(row.GetEnvs()))
	for i, e := range row.GetEnvs() {
		updated := e.GetRevision() == row.GetRevision()
		envs[i] = rollout.Env{Name: e.GetEnv(), Wave: int(e.GetWave()), Updated: updated, Unchanged: updated && e.GetUpdated() == nil}
	}
	rollout.Arrange(envs, int(row.GetWave()), l)
	for i, e := range row.GetEnvs() {
		e.Wave = uint32(envs[i].Wave)
		if goesBack(row) {
			e.Wave = 0
		}
	}
	slices.SortStableFunc(row.Envs, func(a, b *pmpb.RolloutEnv) int { return cmp.Compare(a.GetWave(), b.GetWave()) })
}

// limitsOf puts a strategy in numbers for n environments. A rollout never takes so many of
// them that the rest is not enough for the deployment to be available.
func limitsOf(s *model.RolloutStrategy, kind scheduler.Kind, n int) rollout.Limits {
	l := rollout.Limits{MaxUnavailable: 1, MinHealthy: s.MinHealthy(), Deadline: s.Deadline(), RollBack: s.OnFailure == model.OnFailureRollback}
	if canary, ok := s.Canary.Of(n, true); ok {
		l.Canary = min(canary, n)
	}
	if most, ok := s.MaxUnavailable.Of(n, false); ok {
		l.MaxUnavailable = most
	}
	spare := n - 1
	if kind == scheduler.Quorum {
		spare = (n - 1) / 2
	}
	l.MaxUnavailable = max(min(l.MaxUnavailable, spare), 1)
	return l
}

// renew gives a wave all of its time again.
func (r *Registry) renew(row *pmpb.Rollout) {
	row.Deadline = timestamppb.New(r.now().Add(row.GetProgressDeadline().AsDuration()))
}

// extend gives a wave that is under way all of its time again, for what was sent meanwhile, but
// no more than twice in all: a rollout that is planned anew again and again must end, too. The
// time stands still while it is paused.
func (r *Registry) extend(row *pmpb.Rollout) {
	now, all := r.now(), row.GetProgressDeadline().AsDuration()
	if row.GetPaused() != nil {
		now = row.GetPaused().AsTime()
	}
	until := now.Add(all)
	if most := row.GetWaveStarted().AsTime().Add(2 * all); most.Before(until) {
		until = most
	}
	if until.After(row.GetDeadline().AsTime()) {
		row.Deadline = timestamppb.New(until)
	}
}

// observe gives what is seen of the environments of a rollout, by name.
func (r *Registry) observe(snap *fsm.Snapshot, row *pmpb.Rollout, live map[string]*pmpb.Unit) map[string]rollout.Env {
	out := make(map[string]rollout.Env, len(row.GetEnvs()))
	for _, e := range row.GetEnvs() {
		out[e.GetEnv()] = observeEnv(e, row, live[e.GetEnv()], snap.Cluster(e.GetEnv()))
	}
	return out
}

func observeEnv(e *pmpb.RolloutEnv, row *pmpb.Rollout, u *pmpb.Unit, c *pmpb.Cluster) rollout.Env {
	health := c.GetHealth()
	out := rollout.Env{
		Name: e.GetEnv(), Wave: int(e.GetWave()), Updated: e.GetRevision() == row.GetRevision(),
		Unreachable: fsm.Unreachable(health),
	}
	healthy := health == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
	if u == nil {
		out.Detail = "it has no unit"
		return out
	}
	// What was given something new has to run all of it; of the others it is enough that
	// they can be called.
	out.Available = healthy && fsm.UnitCondition(u) == model.ConditionRunning
	if out.Updated && e.GetUpdated() != nil {
		out.Available = healthy && fsm.UnitComplete(u)
	}
	if out.Available {
		out.Since = latestOf(u.GetConditionSince(), c.GetHealthSince())
		return out
	}
	waiting := u.GetWaiting()
	// What was refused before the wave has begun, or was resumed, says nothing of now.
	out.Refused = waiting.GetPermanent() && !fsm.Acknowledged(u) && !waiting.GetSince().AsTime().Before(row.GetWaveStarted().AsTime())
	out.Detail = unavailableBecause(u, c, healthy)
	return out
}

func unavailableBecause(u *pmpb.Unit, c *pmpb.Cluster, healthy bool) string {
	switch waiting := u.GetWaiting(); {
	case waiting != nil && !fsm.Acknowledged(u):
		return waiting.GetCode() + ": " + clipSummary(waiting.GetMessage())
	case !healthy && c.GetHealthMessage() != "":
		return clipSummary(c.GetHealthMessage())
	case !healthy:
		return "the cluster's health is not known"
	}
	phase, why := fsm.UnitPhase(u), clipSummary(u.GetRuntime().GetStatus().GetMessage())
	switch {
	case why == "" || !fsm.Current(u):
		return phase
	case fsm.UnitCondition(u) == model.ConditionRunning: // but not all of it
		return why
	default:
		return phase + ": " + why
	}
}

func latestOf(times ...*timestamppb.Timestamp) time.Time {
	var out time.Time
	for _, t := range times {
		if t != nil && t.AsTime().After(out) {
			out = t.AsTime()
		}
	}
	return out
}

// stateOf is a rollout as package rollout sees it.
func (r *Registry) stateOf(snap *fsm.Snapshot, row *pmpb.Rollout) rollout.State {
	seen := r.observe(snap, row, liveUnits(snap, row.GetDeploymentUid()))
	s := rollout.State{
		Limits: rollout.Limits{
			Canary: int(row.GetCanary()), MaxUnavailable: roomOf(snap, row), MinHealthy: row.GetMinHealthyTime().AsDuration(),
			Deadline: row.GetProgressDeadline().AsDuration(), RollBack: row.GetRollbackOnFailure(),
		},
		Back: goesBack(row), Wave: int(row.GetWave()),
	}
	if row.GetDeadline() != nil {
		s.Until = row.GetDeadline().AsTime()
	}
	for _, e := range row.GetEnvs() {
		s.Envs = append(s.Envs, seen[e.GetEnv()])
	}
	return s
}

// roomOf is how many environments of a rollout may be unavailable now: while votes move, no
// more than leave a majority of those that there are, of which what is lost is down already.
// What is lost is left without waiting for the rollout, which can wait for that; anything
// else waits for the rollout, which goes on with one at least.
func roomOf(snap *fsm.Snapshot, row *pmpb.Rollout) int {
	most := int(row.GetMaxUnavailable())
	dep := snap.DeploymentByUID(row.GetDeploymentUid())
	if dep == nil || len(dep.Move.GetVoters()) == 0 {
		return most
	}
	room, least := (len(dep.Move.GetVoters())-1)/2, 1
	for _, l := range dep.Move.GetLeaving() {
		if fsm.Unreachable(snap.Cluster(l.GetEnv()).GetHealth()) {
			least = 0
			if slices.Contains(dep.Move.GetVoters(), l.GetEnv()) {
				room--
			}
		}
	}
	return min(most, max(room, least))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
