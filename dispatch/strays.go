package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// strayLimit is for what a cluster can cause by showing runtimes that nothing wants.
var strayLimit = limit{burst: 10, rate: 1.0 / 30}

// errStraysMoved: somebody gave something up meanwhile. It is looked at again.
var errStraysMoved = errors.New("the strays of the cluster have changed")

// sighting is a runtime of this control plane that the state has no unit for.
type sighting struct {
	uid, key string
	// epoch in which it was sent.
	epoch uint64
	// since is when it was first shown in this leadership without a break.
	since time.Time
}

// strays are the sightings of a cluster by unit id. Together with a complete inventory
// they are all that it has, up to fsm.MaxStrays and those that are remembered.
type strays map[string]sighting

// see takes in a runtime that the state does not know. It is a stray only if this very
// control plane has sent it to this very cluster: the id of a unit says so, since it is
// made from the uid of its deployment and the name of the cluster. Runtimes of other
// control planes, those that nobody has sent, and those of a later epoch than the state's,
// which a state restored by hand does not know, are none of our business.
func (s strays) see(env, controlPlane string, epoch uint64, r *oaaspb.ClassRuntimeSummary, now time.Time) {
	d, id := r.GetDelivery(), r.GetDeploymentUnitId()
	if d.GetControlPlaneId() == "" || d.GetControlPlaneId() != controlPlane || d.GetEpoch() > epoch ||
		!isName(d.GetDeploymentUid(), maxStrayUID) || !isName(d.GetDeploymentKey(), maxStrayKey) || !isName(id, maxStrayUID) ||
		!registry.IsUnitID(id, d.GetDeploymentUid(), env) {
		return
	}
	if _, known := s[id]; known || len(s) >= fsm.MaxStrays {
		return
	}
	s[id] = sighting{uid: d.GetDeploymentUid(), key: d.GetDeploymentKey(), epoch: d.GetEpoch(), since: now}
}

// isName reports that a text of a cluster can be a name in the state.
func isName(text string, most int) bool {
	return text != "" && len(text) <= most && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// recognise takes in a runtime that is remembered. There is always room for those, else a
// cluster that has too many would show others each time and none would ever be removed; and
// a manager that tells of no deliveries is believed as to what was given up.
func (s strays) recognise(row *pmpb.Stray, now time.Time) {
	if _, known := s[row.GetUnitId()]; !known {
		s[row.GetUnitId()] = sighting{uid: row.GetDeploymentUid(), key: row.GetDeploymentKey(), epoch: row.GetEpoch(), since: now}
	}
}

// What a cluster may say is the uid, or the key, of a deployment.
const (
	maxStrayUID = 128
	maxStrayKey = 512
)

// strayPlan is what is to be done about strays.
type strayPlan struct {
	// note is the list that is to be remembered, if changed.
	note    []*pmpb.Stray
	changed bool
	// bury are the ids of those that are to be removed now.
	bury []string
}

// plan holds what a cluster has against what is remembered of it. A sighting is remembered
// once it has lasted for patience, since the state and the cluster are never of quite the
// same moment; it is removed when it was remembered for grace, in which somebody who sees
// it can still save what is of value; and what was given up, as soon as it is seen. What was
// sent in an earlier epoch than the present one stays until somebody decides about it: a
// state that was restored does not know what was made after its backup, and a copy of a
// control plane knows nothing of what the other one has done since.
func (s strays) plan(remembered []*pmpb.Stray, epoch uint64, now time.Time, patience, grace time.Duration) strayPlan {
	var out strayPlan
	seen := maps.Clone(s)
	for _, row := range remembered {
		if _, there := seen[row.GetUnitId()]; !there {
			out.changed = true
			continue
		}
		delete(seen, row.GetUnitId())
		out.note = append(out.note, row)
		if row.GetOrphaned() || row.GetEpoch() == epoch && now.Sub(row.GetFirstSeen().AsTime()) >= grace {
			out.bury = append(out.bury, row.GetUnitId())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if one := seen[id]; now.Sub(one.since) >= patience && len(out.note) < fsm.MaxStrays {
			out.changed = true
			out.note = append(out.note, &pmpb.Stray{UnitId: id, DeploymentUid: one.uid, DeploymentKey: one.key, Epoch: one.epoch, FirstSeen: timestamppb.New(now)})
		}
	}
	slices.SortFunc(out.note, func(a, b *pmpb.Stray) int { return strings.Compare(a.GetUnitId(), b.GetUnitId()) })
	return out
}

// sweep has strays remembered and removed. Nothing is concluded without a complete
// inventory: what a list does not show may be there all the same.
func (l *lane) sweep(ctx context.Context, snap *fsm.Snapshot, now time.Time) {
	row := snap.Cluster(l.name)
	if l.work.have == nil || row == nil || snap.FeatureLevel() < fsm.FailoverFrom {
		return
	}
	l.metrics.strays.WithLabelValues(l.name).Set(float64(len(l.strays)))
	if len(l.strays) == 0 && len(row.GetStrays()) == 0 {
		return
	}
	p := l.strays.plan(row.GetStrays(), snap.Meta().GetEpoch(), now, l.opts.StrayPatience, l.opts.StrayGrace)
	if !p.changed && len(p.bury) == 0 {
		return
	}
	if ok, _ := l.sweeps.pass(); !ok {
		return
	}
	if p.changed {
		err := l.opts.Registry.PutCluster(ctx, l.term, l.name, func(next *pmpb.Cluster) error {
			if !proto.Equal(&pmpb.Cluster{Strays: next.GetStrays()}, &pmpb.Cluster{Strays: row.GetStrays()}) {
				return errStraysMoved
			}
			next.Strays = p.note
			return nil
		})
		if err != nil {
			l.log.Warn("strays not stored", "error", err)
			return
		}
		l.log.Warn("the cluster has runtimes that nothing wants", "count", len(p.note), "removed_after", l.opts.StrayGrace)
		return
	}
	if err := l.opts.Registry.BuryStrays(ctx, l.term, l.name, p.bury); err != nil {
		l.log.Warn("strays not removed", "error", err)
		return
	}
	left := l.opts.Registry.State().Snapshot().Cluster(l.name).GetStrays()
	buried := slices.DeleteFunc(p.bury, func(id string) bool { // there may be no room for it
		return slices.ContainsFunc(left, func(s *pmpb.Stray) bool { return s.GetUnitId() == id })
	})
	if len(buried) > 0 {
		l.metrics.buried.WithLabelValues(l.name).Add(float64(len(buried)))
		l.log.Warn("runtimes that nothing wants are removed", "units", buried)
	}
}

// syncOrphans takes in which tombstones were given up. What the cluster has of them is a
// stray from now on.
func (l *lane) syncOrphans(snap *fsm.Snapshot) {
	for _, s := range snap.Cluster(l.name).GetStrays() {
		id := s.GetUnitId()
		if l.work.units[id] == nil || snap.Unit(id) != nil {
			continue
		}
		l.left(id)
		one := sighting{uid: s.GetDeploymentUid(), key: s.GetDeploymentKey(), epoch: s.GetEpoch(), since: l.opts.Now()}
		if _, there := l.work.have[id]; there {
			l.strays[id] = one
		}
		if l.arriving != nil {
			if _, there := l.arriving.inventory[id]; there {
				l.arriving.strays[id] = one
			}
		}
		l.drop(id)
	}
}

// forgetStray is called when the cluster no longer has a unit, or the state has it.
func (l *lane) forgetStray(id string) {
	delete(l.strays, id)
	if l.arriving != nil {
		delete(l.arriving.strays, id)
	}
}

// seeStray takes in a runtime without a unit.
func (l *lane) seeStray(snap *fsm.Snapshot, r *oaaspb.ClassRuntimeSummary) {
	into := l.strays
	if l.arriving != nil {
		into = l.arriving.strays
	}
	if into == nil {
		return
	}
	known := snap.Cluster(l.name).GetStrays()
	at, found := slices.BinarySearchFunc(known, r.GetDeploymentUnitId(), func(s *pmpb.Stray, id string) int { return strings.Compare(s.GetUnitId(), id) })
	if found {
		into.recognise(known[at], l.opts.Now())
		return
	}
	meta := snap.Meta()
	into.see(l.name, meta.GetClusterId(), meta.GetEpoch(), r, l.opts.Now())
}

// straysArrived takes over those of a complete inventory. What was seen before has been
// there since then.
func (l *lane) straysArrived() {
	for id, one := range l.arriving.strays {
		if before, known := l.strays[id]; known && before.uid == one.uid {
			l.arriving.strays[id] = before
		}
	}
	l.strays = l.arriving.strays
}
