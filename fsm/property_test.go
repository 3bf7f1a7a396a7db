package fsm_test

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// driver applies random commands to a state and checks the invariants after each.
type driver struct {
	*replica
	t *rapid.T
	// fences are the last (epoch, fence) of every unit that ever was, and what was
	// wished under it.
	fences map[string]fenced
	// generations are the last generations by deployment uid.
	generations map[string]uint64
	uids        int
	// saved are snapshots of earlier points of the history.
	saved [][]byte
}

type fenced struct {
	epoch, fence uint64
	wish         string
}

var (
	// One begins as another does, which orders have to get right.
	deploymentKeys = []string{"a", "a-2", "b"}
	packageNames   = []string{"pkg", "lib"}
	envNames       = []string{"e1", "e2", "e3"}
	contents       = []string{"c1", "c2"}
)

func pick[T any](d *driver, what string, from []T) T { return rapid.SampledFrom(from).Draw(d.t, what) }

// uidOf gives the uid of the key's present incarnation, or a new one.
func (d *driver) uidOf(key string) string {
	if dep := d.snap().Deployment(key); dep != nil && rapid.IntRange(0, 9).Draw(d.t, "right uid") > 0 {
		return dep.UID
	}
	d.uids++
	return fmt.Sprintf("u%d", d.uids)
}

// operation draws the next operation; most make sense in the present state.
func (d *driver) operation() any {
	switch pick(d, "operation", []string{"commit", "commit", "commit", "delete", "update", "update", "update", "update", "step", "move", "move", "package", "package", "cluster", "strays", "orphan", "bury", "member", "found", "autopilot", "alarms", "level", "remark", "junk"}) {
	case "commit":
		return d.commit()
	case "delete":
		return &pmpb.DeleteDeployment{Key: pick(d, "key", deploymentKeys)}
	case "update":
		return d.updates()
	case "step":
		return d.stepRollout()
	case "move":
		return d.stepMove()
	case "package":
		if rapid.Bool().Draw(d.t, "remove") {
			return &pmpb.DeletePackage{Name: pick(d, "package", packageNames)}
		}
		return putPackage(d.replica, pick(d, "package", packageNames), pick(d, "dependencies", [][]string{nil, {"lib"}})...)
	case "cluster":
		if rapid.Bool().Draw(d.t, "remove") {
			return &pmpb.RemoveCluster{Name: pick(d, "cluster", envNames)}
		}
		row := &pmpb.Cluster{Name: pick(d, "cluster", envNames), Zone: pick(d, "zone", contents), Labels: map[string]string{"x": "1", "y": "2", "z": "3"}}
		row.Health = pmpb.ClusterHealth(rapid.IntRange(0, len(pmpb.ClusterHealth_name)-1).Draw(d.t, "health"))
		if fsm.Unreachable(row.GetHealth()) {
			row.DisconnectedSince = timestamppb.New(epoch)
			row.Observations = []*pmpb.Observation{{ServerId: "s2", Time: timestamppb.New(epoch), Reachable: rapid.Bool().Draw(d.t, "reachable")}}
		}
		return &pmpb.PutCluster{Cluster: row}
	case "strays":
		return d.strays()
	case "orphan":
		uid := "none"
		for _, u := range d.snap().Units() {
			if u.GetTombstone() && (uid == "none" || rapid.Bool().Draw(d.t, "orphan "+u.GetId())) {
				uid = u.GetDeploymentUid()
			}
		}
		return &pmpb.OrphanUnits{DeploymentUid: uid, Envs: []string{pick(d, "env", envNames)}}
	case "bury":
		op := &pmpb.BuryStrays{Env: pick(d, "env", envNames)}
		for _, s := range d.snap().Cluster(op.GetEnv()).GetStrays() {
			if rapid.Bool().Draw(d.t, "bury "+s.GetUnitId()) {
				op.UnitIds = append(op.UnitIds, s.GetUnitId())
			}
		}
		return op
	case "member":
		if rapid.Bool().Draw(d.t, "remove") {
			return &pmpb.RemoveMember{ServerId: pick(d, "member", envNames)}
		}
		return &pmpb.PutMember{Member: &pmpb.Member{ServerId: pick(d, "member", envNames), RaftAddress: pick(d, "address", contents)}}
	case "autopilot":
		return &pmpb.PutAutopilot{Autopilot: &pmpb.Autopilot{DesiredVoters: uint32(rapid.IntRange(0, 5).Draw(d.t, "voters")), NonVoters: []string{pick(d, "pinned", envNames)}}}
	case "alarms":
		key := &pmpb.AlarmKey{Kind: pmpb.AlarmKey_KIND_NO_SPACE, ServerId: pick(d, "server", envNames)}
		if rapid.IntRange(0, 3).Draw(d.t, "raise") == 0 {
			return &pmpb.UpdateAlarms{Raise: []*pmpb.Alarm{{Key: key, Message: pick(d, "message", contents)}}}
		}
		op := &pmpb.UpdateAlarms{}
		for _, a := range d.snap().Alarms() {
			op.Clear = append(op.Clear, a.GetKey())
		}
		return op
	case "level":
		return &pmpb.RaiseFeatureLevel{Level: pick(d, "level", []uint32{0, 1, 2, 3, fsm.Level, fsm.Level, fsm.Level, fsm.Level + 1})}
	case "remark":
		return &pmpb.Remark{}
	case "found":
		return &pmpb.Found{ClusterId: pick(d, "cluster id", contents)}
	default:
		return nil
	}
}

// strays has a cluster show what nothing wants, mostly of deployments that are gone.
func (d *driver) strays() *pmpb.PutCluster {
	env := pick(d, "cluster", envNames)
	row := &pmpb.Cluster{Name: env}
	if have := d.snap().Cluster(env); have != nil {
		row = proto.CloneOf(have)
	}
	row.Strays = nil
	for _, key := range deploymentKeys {
		if uid := d.uidOf(key); rapid.Bool().Draw(d.t, "stray of "+key) {
			row.Strays = append(row.Strays, &pmpb.Stray{UnitId: uid + "-" + env, DeploymentUid: uid, DeploymentKey: key, Orphaned: rapid.Bool().Draw(d.t, "orphaned")})
		}
	}
	slices.SortFunc(row.Strays, func(a, b *pmpb.Stray) int { return strings.Compare(a.GetUnitId(), b.GetUnitId()) })
	return &pmpb.PutCluster{Cluster: row}
}

func (d *driver) commit() *pmpb.CommitDeployment {
	key := pick(d, "key", deploymentKeys)
	uid := d.uidOf(key)
	doc := deploymentDoc(key)
	doc.PackageName = pick(d, "package", packageNames)
	doc.Condition = pick(d, "condition", []model.DeploymentCondition{model.ConditionPending, model.ConditionRunning})
	op := &pmpb.CommitDeployment{Uid: uid, Document: []byte(jsonOf(d.replica, doc)), Plan: []byte(pick(d, "plan", []string{`{}`, `{"n":1}`, `{"n":2}`}))}
	for _, env := range envNames {
		if !rapid.Bool().Draw(d.t, "in "+env) {
			continue
		}
		content := pick(d, "content", contents)
		id := uid + "-" + env + pick(d, "class", []string{"", "", "", "x"})
		op.Units = append(op.Units, &pmpb.PlannedUnit{Id: id, Env: env, ContentHash: hashOf(content), Desired: &oaaspb.DeploymentUnit{Id: id, SelectedTemplate: ptr(content)}})
	}
	if d.snap().FeatureLevel() >= fsm.RolloutFrom {
		d.revised(op, key)
	}
	if d.snap().FeatureLevel() >= fsm.FailoverFrom {
		op.Move = d.move(key, op.GetUnits())
	}
	return op
}

// move leaves the environments that are not planned any more, and sometimes others.
func (d *driver) move(key string, planned []*pmpb.PlannedUnit) *pmpb.Move {
	have := d.snap().Deployment(key)
	if have == nil || rapid.IntRange(0, 3).Draw(d.t, "moves") == 0 {
		return nil
	}
	out := &pmpb.Move{Started: timestamppb.New(epoch), Voters: []string{pick(d, "voter", envNames)}}
	for _, u := range d.snap().UnitsByDeployment(have.UID) {
		kept := slices.ContainsFunc(planned, func(p *pmpb.PlannedUnit) bool { return p.GetEnv() == u.GetEnv() })
		if !u.GetTombstone() && !kept || rapid.IntRange(0, 19).Draw(d.t, "leaves "+u.GetEnv()) == 0 {
			out.Leaving = append(out.Leaving, &pmpb.Leaving{Env: u.GetEnv(), Reason: pmpb.MoveReason_MOVE_REASON_DRAIN})
		}
	}
	return out
}

// stepMove mostly withdraws what leaves for what runs.
func (d *driver) stepMove() *pmpb.StepMove {
	key := pick(d, "key", deploymentKeys)
	op := &pmpb.StepMove{Key: key, Uid: d.uidOf(key)}
	have := d.snap().Deployment(key)
	if have == nil || have.Move == nil {
		return op
	}
	op.Move = proto.CloneOf(have.Move)
	if leaving := op.GetMove().GetLeaving(); len(leaving) > 0 && rapid.IntRange(0, 3).Draw(d.t, "withdraw") > 0 {
		op.Withdraw, op.Replacement = leaving[0].GetEnv(), pick(d, "replacement", envNames)
		op.Move.Leaving = leaving[1:]
	} else {
		op.Move.Held = &pmpb.Held{Code: pick(d, "held", []string{"", "c1", "c2"})}
	}
	return op
}

// revised may give a commit another revision and a rollout, which mostly fits.
func (d *driver) revised(op *pmpb.CommitDeployment, key string) {
	number, stable := uint64(1), uint64(1)
	if have := d.snap().Deployment(key); have != nil {
		number, stable = have.RevisionNumber(), have.RevisionNumber()
	}
	if r := d.snap().Rollout(key); r != nil && !fsm.RolloutSettled(r.GetPhase()) {
		stable = r.GetStable()
	}
	if rapid.Bool().Draw(d.t, "revised") {
		op.Revised = &pmpb.Revised{Summary: "s", Outcome: pick(d, "outcome", []string{"", fsm.OutcomeFailed})}
		if d.snap().Deployment(key) != nil {
			number++
		}
	}
	if rapid.Bool().Draw(d.t, "rollout") {
		op.Rollout = d.rollout(number, stable)
		for i, u := range op.GetUnits() {
			op.Rollout.Envs = append(op.Rollout.Envs, &pmpb.RolloutEnv{Env: u.GetEnv(), Wave: uint32(i), Revision: stable})
		}
	}
}

func (d *driver) rollout(revision, stable uint64) *pmpb.Rollout {
	out := &pmpb.Rollout{
		Revision: revision, Stable: stable, MaxUnavailable: uint32(rapid.IntRange(0, 20).Draw(d.t, "max unavailable")),
		Phase: pmpb.RolloutPhase(rapid.IntRange(0, 7).Draw(d.t, "phase")), Wave: uint32(rapid.IntRange(0, 2).Draw(d.t, "wave")),
	}
	if rapid.Bool().Draw(d.t, "started") {
		out.WaveStarted = timestamppb.New(epoch)
	}
	return out
}

func (d *driver) stepRollout() *pmpb.StepRollout {
	key := pick(d, "key", deploymentKeys)
	old := d.snap().Rollout(key)
	next := d.rollout(old.GetRevision(), old.GetStable())
	next.DeploymentKey, next.DeploymentUid = key, d.uidOf(key)
	op := &pmpb.StepRollout{Rollout: next}
	for _, u := range d.snap().UnitsByDeployment(next.GetDeploymentUid()) {
		next.Envs = append(next.Envs, &pmpb.RolloutEnv{Env: u.GetEnv(), Revision: max(old.GetRevision(), 1)})
		if rapid.Bool().Draw(d.t, "update "+u.GetEnv()) {
			content := pick(d, "content", contents)
			op.Units = append(op.Units, &pmpb.PlannedUnit{Id: u.GetId(), Env: u.GetEnv(), ContentHash: hashOf(content), Desired: &oaaspb.DeploymentUnit{Id: u.GetId(), SelectedTemplate: ptr(content)}})
		}
	}
	return op
}

func (d *driver) updates() *pmpb.UpdateUnits {
	op := &pmpb.UpdateUnits{}
	units := d.snap().Units()
	for range rapid.IntRange(0, 4).Draw(d.t, "updates") {
		if len(units) == 0 {
			break
		}
		u := d.about(pick(d, "unit", units).GetId())
		switch rapid.IntRange(0, 7).Draw(d.t, "stale") {
		case 0:
			u.Fence--
		case 1:
			u.Epoch--
		case 2:
			u.Fence++
		}
		switch pick(d, "update", []string{"ack", "gone", "lost", "wait", "run"}) {
		case "ack":
			acked(u, pick(d, "content", contents))
		case "gone":
			gone(u)
		case "lost":
			lost(u)
		case "wait":
			waiting(u, pick(d, "code", contents), rapid.Bool().Draw(d.t, "permanent"))
		case "run":
			runs(u, pick(d, "content", contents), oaaspb.DeploymentCondition(rapid.IntRange(0, 5).Draw(d.t, "condition")))
		}
		op.Updates = append(op.Updates, u)
	}
	return op
}

// envelope draws what surrounds the operation.
func (d *driver) envelope(c *pmpb.Command) {
	if rapid.IntRange(0, 9).Draw(d.t, "term") == 0 {
		c.ExpectedTerm = d.term + 1
	}
	if rapid.IntRange(0, 3).Draw(d.t, "guarded") == 0 {
		key := pick(d, "guard key", deploymentKeys)
		c.Guards = []*pmpb.Guard{{Table: pmpb.Guard_TABLE_DEPLOYMENT, Key: key}}
		if dep := d.snap().Deployment(key); dep != nil {
			c.Guards[0].ModifyIndex = dep.ModifyIndex - uint64(rapid.IntRange(0, 1).Draw(d.t, "late"))
		}
	}
	if rapid.IntRange(0, 2).Draw(d.t, "idempotent") == 0 {
		remembering(pick(d, "key", idempotencyKeys), pick(d, "hash", contents), "body")(c)
	}
	if d.snap().FeatureLevel() > 2 && rapid.Bool().Draw(d.t, "noted") {
		c.Note = &pmpb.AuditNote{Action: pick(d, "action", contents), Operator: rapid.Bool().Draw(d.t, "operator")}
	}
	switch rapid.IntRange(0, 19).Draw(d.t, "clock") {
	case 0:
		c.LeaderTime = nil
	case 1:
		c.LeaderTime = timestamppb.New(epoch.Add(-time.Hour))
	case 2:
		c.LeaderTime = timestamppb.New(epoch.Add(2 * fsm.ReplyTTL))
	}
}

func (d *driver) step() {
	switch rapid.IntRange(0, 19).Draw(d.t, "raw") {
	case 0:
		d.raw(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(d.t, "bytes"))
	case 1, 2:
		d.restoreStep()
	case 3:
		d.saved = append(d.saved, dump(d.replica, d.snap()))
	default:
		before := d.snap()
		res := d.try(d.operation(), d.envelope)
		if res.Err != nil || res.Reply != nil {
			if a, b := rowsOf(d.replica, before), rowsOf(d.replica, d.snap()); !slices.Equal(a, b) {
				d.t.Fatalf("command %d had no effect (%v) but changed the rows:\n%q\n%q", res.Index, res.Err, a, b)
			}
		}
		d.checkWithdrawn(before)
		d.checkVanished(before)
	}
	d.checkUnits()
	d.checkDeletions()
	d.checkDeployments()
}

// checkVanished finds units that went without a confirmed tombstone.
func (d *driver) checkVanished(before *fsm.Snapshot) {
	cmd, err := fsm.DecodeCommand(d.log[len(d.log)-1].Data)
	if err != nil {
		return
	}
	for _, u := range before.Units() {
		if d.snap().Unit(u.GetId()) != nil {
			continue
		}
		confirmed := slices.ContainsFunc(cmd.GetUpdateUnits().GetUpdates(), func(up *pmpb.UnitUpdate) bool {
			return up.GetId() == u.GetId() && up.GetGone() != nil && up.GetFence() == u.GetFence() && up.GetEpoch() == u.GetEpoch()
		})
		given := cmd.GetOrphanUnits()
		orphaned := given.GetDeploymentUid() == u.GetDeploymentUid() && slices.Contains(given.GetEnvs(), u.GetEnv())
		if row := d.snap().Cluster(u.GetEnv()); orphaned && row != nil && !slices.ContainsFunc(row.GetStrays(), func(s *pmpb.Stray) bool { return s.GetUnitId() == u.GetId() && s.GetOrphaned() }) {
			d.t.Fatalf("unit %v was given up and forgotten", u)
		}
		if !u.GetTombstone() || !confirmed && !orphaned {
			d.t.Fatalf("unit %v vanished with %v", u, cmd)
		}
	}
}

func (d *driver) checkUnits() {
	for _, u := range d.snap().Units() {
		now := fenced{u.GetEpoch(), u.GetFence(), fmt.Sprintf("%s %v %d %x", u.GetContentHash(), u.GetTombstone(), u.GetGeneration(), u.GetDesired())}
		last, seen := d.fences[u.GetId()]
		switch {
		case seen && (now.epoch < last.epoch || (now.epoch == last.epoch && now.fence < last.fence)):
			d.t.Fatalf("fence of %s fell from %+v to %+v", u.GetId(), last, now)
		case seen && now.epoch == last.epoch && now.fence == last.fence && now.wish != last.wish:
			d.t.Fatalf("wish of %s changed under its fence, from %+v to %+v", u.GetId(), last, now)
		}
		d.fences[u.GetId()] = now
		dep := d.snap().DeploymentByUID(u.GetDeploymentUid())
		if dep == nil && (!u.GetTombstone() || d.snap().Deletion(u.GetDeploymentUid()) == nil) {
			d.t.Fatalf("unit %v has no deployment", u)
		}
		if fsm.Acknowledged(u) && u.GetWaiting() != nil {
			d.t.Fatalf("unit %v waits though it is acknowledged", u)
		}
	}
}

func (d *driver) checkDeletions() {
	for _, del := range d.snap().Deletions() {
		var pending []string
		for _, u := range d.snap().UnitsByDeployment(del.GetDeploymentUid()) {
			if !u.GetTombstone() {
				d.t.Fatalf("unit %v of a deleted deployment lives", u)
			}
			pending = append(pending, u.GetEnv())
		}
		pending = slices.Compact(pending)
		both := slices.Concat(del.GetConfirmedEnvs(), del.GetOrphanedEnvs(), pending)
		slices.Sort(both)
		if len(pending) == 0 || !slices.Equal(both, del.GetEnvs()) {
			d.t.Fatalf("deletion %v does not fit what is pending: %v", del, pending)
		}
	}
}

func (d *driver) checkDeployments() {
	s := d.snap()
	// Of a deployment whose deletion is complete nothing is known any more: a restore
	// brings it back with the generation that was saved, under a new epoch.
	maps.DeleteFunc(d.generations, func(uid string, _ uint64) bool {
		return s.DeploymentByUID(uid) == nil && s.Deletion(uid) == nil && len(s.UnitsByDeployment(uid)) == 0
	})
	for _, dep := range s.Deployments() {
		if dep.Generation < d.generations[dep.UID] {
			d.t.Fatalf("generation of %s fell from %d to %d", dep.Doc.Key, d.generations[dep.UID], dep.Generation)
		}
		d.generations[dep.UID] = dep.Generation
		if p := s.Plan(dep.Doc.Key); p == nil || p.DeploymentUID != dep.UID || p.Generation != dep.Generation {
			d.t.Fatalf("plan of %s is %+v", dep.Doc.Key, p)
		}
		for _, u := range s.UnitsByDeployment(dep.UID) {
			if u.GetGeneration() > dep.Generation || u.GetDeploymentKey() != dep.Doc.Key {
				d.t.Fatalf("unit %v does not fit deployment %+v", u, dep)
			}
		}
	}
	d.checkRollouts()
	d.checkMoves()
	if len(s.Plans()) != len(s.Deployments()) {
		d.t.Fatalf("%d plans for %d deployments", len(s.Plans()), len(s.Deployments()))
	}
}

// checkMoves finds units that are neither planned nor leave, which nothing would ever end.
func (d *driver) checkMoves() {
	s := d.snap()
	for _, dep := range s.Deployments() {
		for _, l := range dep.Move.GetLeaving() {
			if !slices.ContainsFunc(s.UnitsByDeployment(dep.UID), func(u *pmpb.Unit) bool { return u.GetEnv() == l.GetEnv() && !u.GetTombstone() }) {
				d.t.Fatalf("%s leaves %s, where it has no unit", dep.Doc.Key, l.GetEnv())
			}
		}
	}
}

// checkWithdrawn finds units that a step of a move took away without another one that runs.
func (d *driver) checkWithdrawn(before *fsm.Snapshot) {
	cmd, err := fsm.DecodeCommand(d.log[len(d.log)-1].Data)
	if err != nil || cmd.GetStepMove() == nil {
		return
	}
	for _, u := range before.Units() {
		if u.GetTombstone() || !d.snap().Unit(u.GetId()).GetTombstone() {
			continue
		}
		by := slices.ContainsFunc(before.UnitsByDeployment(u.GetDeploymentUid()), func(o *pmpb.Unit) bool {
			return o.GetEnv() == cmd.GetStepMove().GetReplacement() && o.GetId() != u.GetId() && fsm.UnitCondition(o) == model.ConditionRunning
		})
		if !by {
			d.t.Fatalf("unit %v was withdrawn by %v", u, cmd)
		}
	}
}

func (d *driver) checkRollouts() {
	s := d.snap()
	for _, r := range s.Rollouts() {
		dep := s.Deployment(r.GetDeploymentKey())
		if dep == nil || dep.UID != r.GetDeploymentUid() || dep.RevisionNumber() != r.GetRevision() || r.GetMaxUnavailable() == 0 {
			d.t.Fatalf("rollout %v does not fit deployment %+v", r, dep)
		}
		if back := !fsm.RolloutSettled(r.GetPhase()) && r.GetStable() != r.GetRevision(); back != (len(r.GetStableDocument()) > 0) {
			d.t.Fatalf("rollout %v cannot go back, or need not", r)
		}
	}
	for _, dep := range s.Deployments() {
		last := dep.RevisionNumber()
		for _, r := range s.Revisions(dep.Doc.Key) {
			if r.GetNote().GetNumber() >= last || r.GetDeploymentUid() != dep.UID {
				d.t.Fatalf("revision %v after %d", r, last)
			}
			last = r.GetNote().GetNumber()
		}
		if n := len(s.Revisions(dep.Doc.Key)); n >= fsm.MaxRevisions {
			d.t.Fatalf("%d past revisions", n)
		}
	}
	for _, key := range deploymentKeys {
		if n := len(s.Timeline(key)); n > fsm.MaxTimelineOfOne {
			d.t.Fatalf("%d events of %s", n, key)
		}
	}
}

// The same log makes the same bytes, whether it is applied one by one, in batches
// of any size, or with a snapshot and a restore in between; every step keeps the
// invariants; and no view ever changes.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &driver{replica: newReplica(t), t: rt, fences: map[string]fenced{}, generations: map[string]uint64{}}
		type kept struct {
			view *fsm.Snapshot
			dump []byte
		}
		var views []kept
		for i := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			d.step()
			if i%4 == 0 {
				views = append(views, kept{d.snap(), dump(t, d.snap())})
			}
		}
		for _, v := range views {
			if !bytes.Equal(dump(t, v.view), v.dump) {
				rt.Fatalf("the view at index %d has changed", v.view.Index())
			}
		}
		want := dump(t, d.snap())

		single, batched := newReplica(t), newReplica(t)
		var one, many []fsm.Result
		for _, e := range d.log {
			one = append(one, single.state.Apply(e.Index, e.Term, e.Data))
		}
		half := rapid.IntRange(0, len(d.log)).Draw(rt, "restore after")
		for rest := d.log; len(rest) > 0; {
			n := min(rapid.IntRange(1, 8).Draw(rt, "batch"), len(rest))
			if done := len(d.log) - len(rest); done < half && done+n > half {
				n = half - done
			}
			many = append(many, batched.state.ApplyBatch(rest[:n])...)
			rest = rest[n:]
			if len(d.log)-len(rest) == half {
				restored, err := fsm.ReadSnapshot(bytes.NewReader(dump(t, batched.snap())))
				if err != nil {
					rt.Fatalf("restore after %d commands: %v", half, err)
				}
				batched.state = restored
			}
		}
		if !bytes.Equal(dump(t, single.snap()), want) {
			rt.Fatal("the same log made another state")
		}
		if !bytes.Equal(dump(t, batched.snap()), want) {
			rt.Fatal("the same log in batches, with a restore, made another state")
		}
		for i := range one {
			if reflect.TypeOf(one[i].Err) != reflect.TypeOf(many[i].Err) || (one[i].Reply == nil) != (many[i].Reply == nil) {
				rt.Fatalf("command %d gives %v alone and %v in a batch", i+1, one[i], many[i])
			}
		}
	})
}
