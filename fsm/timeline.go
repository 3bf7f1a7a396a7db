package fsm

import (
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// Limits of the timeline. They are part of the replicated semantics.
const (
	// MaxTimelineOfOne is how many events of a deployment are kept, the newest. They
	// outlive it.
	MaxTimelineOfOne = 100
	// MaxTimeline is how many events are kept in all. The oldest go first.
	MaxTimeline = 32_768
	// maxTimelineText bounds the texts of an event.
	maxTimelineText = 512
)

// The types of events of a timeline. Those of units are named after the phase that the
// unit has reached, see UnitPhase.
const (
	EventAccepted          = "Accepted"
	EventPlanned           = "Planned"
	EventQueued            = "Queued"
	EventWithdrawn         = "Withdrawn"
	EventAcknowledged      = "Acknowledged"
	EventRemoved           = "Removed"
	EventDeletionRequested = "DeletionRequested"
	EventDeletionConfirmed = "DeletionConfirmed"
	EventDeletionAbandoned = "DeletionAbandoned"
	EventOrphaned          = "Orphaned"
	EventStrayBuried       = "StrayBuried"
	EventRolloutStarted    = "RolloutStarted"
	EventWaveStarted       = "WaveStarted"
	EventRolloutPaused     = "RolloutPaused"
	EventRolloutResumed    = "RolloutResumed"
	EventRolloutFailed     = "RolloutFailed"
	EventRolloutComplete   = "RolloutComplete"
	EventRollbackStarted   = "RollbackStarted"
	EventRolledBack        = "RolledBack"
	EventMoveStarted       = "MoveStarted"
	EventMoveHeld          = "MoveHeld"
	EventVotesChanged      = "VotesChanged"
	EventReplaced          = "Replaced"
	EventMoveComplete      = "MoveComplete"
)

// timelineKey is the key of an event in a snapshot; keys sort as the rows do.
func timelineKey(e *pmpb.TimelineEvent) string {
	return fmt.Sprintf("%020d/%010d", e.GetIndex(), e.GetSequence())
}

// tell collects an event. It is kept when the command takes effect.
func (c *call) tell(e *pmpb.TimelineEvent) {
	if c.view.FeatureLevel() < RolloutFrom || len(e.GetDeploymentKey()) > maxKeyBytes {
		return
	}
	e.Index, e.Sequence, e.Time = c.index, uint32(len(c.events)), c.now()
	e.Reason, e.Message = eventText(e.GetReason()), eventText(e.GetMessage())
	c.events = append(c.events, e)
}

// eventText makes a text of an event: valid UTF-8 of at most maxTimelineText bytes.
func eventText(s string) string {
	if len(s) <= maxTimelineText {
		return s
	}
	return strings.ToValidUTF8(s[:maxTimelineText-3], "") + "..."
}

func (c *call) tellOf(d *Deployment, kind, reason, message string) {
	c.tell(&pmpb.TimelineEvent{
		DeploymentKey: d.Doc.Key, DeploymentUid: d.UID, Type: kind, Reason: reason, Message: message,
		Generation: d.Generation, Revision: d.Revision.GetNumber(),
	})
}

// tellCommit tells that a wish was taken in and where it is to run. What is sent for it is
// told with the units.
func (c *call) tellCommit(row, have *Deployment, op *pmpb.CommitDeployment) {
	if have == nil || row.Generation != have.Generation {
		what := "the wish has changed"
		switch {
		case have == nil:
			what = "created"
		case row.Revision != have.Revision && row.Revision.GetSummary() != "":
			what = row.Revision.GetSummary()
		}
		c.tellOf(row, EventAccepted, c.cmd.GetNote().GetAction(), what)
	}
	var before, after []string
	for _, u := range c.view.UnitsByDeployment(row.UID) {
		if !u.GetTombstone() && (have == nil || !leaves(have.Move, u.GetEnv())) {
			before = append(before, u.GetEnv())
		}
	}
	for _, u := range op.GetUnits() {
		after = append(after, u.GetEnv())
	}
	slices.Sort(after)
	if !slices.Equal(before, after) {
		c.tellOf(row, EventPlanned, "", strings.Join(after, ", "))
	}
}

func (c *call) tellQueued(d *Deployment, envs []string) {
	if len(envs) > 0 {
		c.tellOf(d, EventQueued, "", "to be sent to "+strings.Join(envs, ", "))
	}
}

func (c *call) tellWithdrawn(d *Deployment, envs []string) {
	if len(envs) > 0 {
		c.tellOf(d, EventWithdrawn, "", "to be removed from "+strings.Join(envs, ", "))
	}
}

func (c *call) tellDeletion(d *Deployment, envs []string) {
	if len(envs) == 0 {
		c.tellOf(d, EventDeletionConfirmed, "", "it ran nowhere")
		return
	}
	c.tellOf(d, EventDeletionRequested, c.cmd.GetNote().GetAction(), "to be removed from "+strings.Join(envs, ", "))
}

// tellGone tells that a cluster has removed a unit, or of no cluster in particular that all
// have.
func (c *call) tellGone(u *pmpb.Unit, env, kind string) {
	if c.hearsay(u) {
		return
	}
	c.tell(&pmpb.TimelineEvent{DeploymentKey: u.GetDeploymentKey(), DeploymentUid: u.GetDeploymentUid(), Env: env, Type: kind})
}

// putUnit writes a unit, with the time since when it is as it is, and tells what has become
// of it.
func (c *call) putUnit(old, next *pmpb.Unit) {
	c.dateCondition(old, next)
	c.put(atUnits, next)
	c.tellUnit(old, next)
}

// dateCondition keeps up since when the condition of a unit is what it is, and the unit
// complete or not.
func (c *call) dateCondition(old, next *pmpb.Unit) {
	if c.view.FeatureLevel() < RolloutFrom {
		return
	}
	next.ConditionSince = old.GetConditionSince()
	if old == nil || UnitCondition(old) != UnitCondition(next) || UnitComplete(old) != UnitComplete(next) {
		next.ConditionSince = c.now()
	}
}

// tellUnit tells what a cluster said about a unit. What was asked of the clusters is told
// for all of them together.
func (c *call) tellUnit(old, next *pmpb.Unit) {
	if c.hearsay(next) {
		return
	}
	say := func(kind, reason, message string) {
		c.tell(&pmpb.TimelineEvent{
			DeploymentKey: next.GetDeploymentKey(), DeploymentUid: next.GetDeploymentUid(), Env: next.GetEnv(),
			Type: kind, Reason: reason, Message: message, Generation: next.GetGeneration(),
		})
	}
	if Acknowledged(next) && !Acknowledged(old) {
		say(EventAcknowledged, "", "")
	}
	if w := next.GetWaiting(); w != nil && w.GetCode() != old.GetWaiting().GetCode() {
		kind := PhaseWaiting
		if w.GetPermanent() {
			kind = PhaseRefused
		}
		say(kind, w.GetCode(), w.GetMessage())
		return
	}
	level := c.view.FeatureLevel()
	fault := toldFault(level, next)
	switch phase := toldPhase(level, next); {
	case phase == toldPhase(level, old) && fault.Reason == toldFault(level, old).Reason:
	case phase == PhaseDegraded:
		say(phase, fault.Reason, fault.Message)
	case phase == PhaseAvailable, phase == PhaseProgressing && Acknowledged(old):
		say(phase, "", "")
	}
}

// toldPhase is the phase that the timeline tells. Servers that know no faults of units that
// run have to write the same as those that do.
func toldPhase(level uint32, u *pmpb.Unit) string {
	if level < FailoverFrom && UnitFault(u) != nil && UnitCondition(u) == model.ConditionRunning {
		return PhaseAvailable
	}
	return UnitPhase(u)
}

// toldFault is what the timeline tells of a unit that is Degraded, nothing of others.
func toldFault(level uint32, u *pmpb.Unit) Fault {
	fault := UnitFault(u)
	switch {
	case fault == nil:
		return Fault{}
	case level < FailoverFrom:
		return Fault{Message: u.GetRuntime().GetStatus().GetMessage()}
	default:
		return *fault
	}
}

// tellRollout tells how a rollout has gone on.
func (c *call) tellRollout(old, next *pmpb.Rollout) {
	say := func(kind, reason, message string) {
		c.tell(&pmpb.TimelineEvent{
			DeploymentKey: next.GetDeploymentKey(), DeploymentUid: next.GetDeploymentUid(), Type: kind, Reason: reason, Message: message,
			Revision: next.GetRevision(),
		})
	}
	another := old == nil || old.GetRevision() != next.GetRevision()
	switch was := old.GetPhase(); next.GetPhase() {
	case pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING:
		if another {
			say(EventRolloutStarted, "", fmt.Sprintf("from revision %d to %d in %d waves", next.GetStable(), next.GetRevision(), RolloutWaves(next)))
		} else if was != next.GetPhase() {
			say(EventRolloutResumed, "", "")
		}
	case pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLING_BACK:
		if another {
			say(EventRollbackStarted, next.GetReason(), next.GetMessage())
		} else if was != next.GetPhase() {
			say(EventRolloutResumed, "", "")
		}
	case was:
		return
	case pmpb.RolloutPhase_ROLLOUT_PHASE_PAUSED:
		say(EventRolloutPaused, "", "")
	case pmpb.RolloutPhase_ROLLOUT_PHASE_FAILED:
		say(EventRolloutFailed, next.GetReason(), next.GetMessage())
	case pmpb.RolloutPhase_ROLLOUT_PHASE_COMPLETE:
		say(EventRolloutComplete, "", fmt.Sprintf("all environments have revision %d", next.GetRevision()))
	case pmpb.RolloutPhase_ROLLOUT_PHASE_ROLLED_BACK:
		say(EventRolledBack, "", fmt.Sprintf("all environments have revision %d", next.GetRevision()))
	case pmpb.RolloutPhase_ROLLOUT_PHASE_UNSPECIFIED: // no rollout was ever stored without a phase
	}
	progresses := next.GetPhase() == pmpb.RolloutPhase_ROLLOUT_PHASE_PROGRESSING
	if progresses && next.GetWaveStarted() != nil && (another || old.GetWaveStarted() == nil || old.GetWave() != next.GetWave()) {
		say(EventWaveStarted, "", fmt.Sprintf("wave %d of %d: %s", next.GetWave()+1, RolloutWaves(next), strings.Join(waveOf(next), ", ")))
	}
}

// RolloutWaves is the number of waves of a rollout, at least 1.
func RolloutWaves(r *pmpb.Rollout) int {
	last := r.GetWave()
	for _, e := range r.GetEnvs() {
		last = max(last, e.GetWave())
	}
	return int(last) + 1
}

// waveOf names the environments of the wave that is under way.
func waveOf(r *pmpb.Rollout) []string {
	var out []string
	for _, e := range r.GetEnvs() {
		if e.GetWave() == r.GetWave() {
			out = append(out, e.GetEnv())
		}
	}
	return out
}

// keepTimeline writes what the command has told and drops the oldest for it. It runs when
// the handler has succeeded and cannot fail.
func (c *call) keepTimeline() {
	if len(c.events) == 0 {
		return
	}
	gone := map[*pmpb.TimelineEvent]bool{}
	drop := func(e *pmpb.TimelineEvent) {
		gone[e] = true
		c.meta.timeline--
		c.drop(atTimeline, e)
	}
	told := map[string]int{}
	for _, e := range c.events {
		told[e.GetDeploymentKey()]++
	}
	for _, key := range sortedKeys(told) {
		have, room := c.view.Timeline(key), max(MaxTimelineOfOne-told[key], 0)
		for _, old := range have[:max(len(have)-room, 0)] {
			drop(old)
		}
	}
	var kept []*pmpb.TimelineEvent
	for _, e := range c.events { // of one that has told too much, the newest
		if told[e.GetDeploymentKey()]--; told[e.GetDeploymentKey()] < MaxTimelineOfOne {
			kept = append(kept, e)
		}
	}
	for old := range c.view.store.timeline().each() {
		if c.meta.timeline+len(kept) <= MaxTimeline {
			break
		}
		if !gone[old] {
			drop(old)
		}
	}
	for _, e := range kept {
		c.meta.timeline++
		c.put(atTimeline, e)
	}
}

// Timeline gives the events of a deployment, or of one that had this key, the oldest first.
func (s *Snapshot) Timeline(key string) []*pmpb.TimelineEvent {
	return slices.Collect(while(s.store.timeline().from(timelineByDeployment, &pmpb.TimelineEvent{DeploymentKey: key}), func(e *pmpb.TimelineEvent) bool {
		return e.GetDeploymentKey() == key
	}))
}

// checkTimelineEvent refuses what the state does not tell.
func checkTimelineEvent(e *pmpb.TimelineEvent) error {
	switch {
	case e.GetType() == "":
		return fmt.Errorf("it has no type")
	case max(len(e.GetReason()), len(e.GetMessage())) > maxTimelineText:
		return fmt.Errorf("it has a text of more than %d bytes", maxTimelineText)
	case !valid(e.GetTime()):
		return fmt.Errorf("its time is out of range")
	default:
		return checkKey("deployment key", e.GetDeploymentKey())
	}
}

// timeline holds the events of a snapshot against what commands let in.
func (k *checker) timeline() error {
	held := map[string]int{}
	for e := range rowsOf[*pmpb.TimelineEvent](k.contents, atTimeline) {
		if err := k.indexes(TableTimeline, timelineKey(e), 0, e.GetIndex()); err != nil {
			return err
		}
		if held[e.GetDeploymentKey()]++; held[e.GetDeploymentKey()] > MaxTimelineOfOne {
			return k.fail(TableTimeline, "%q has more than %d events", e.GetDeploymentKey(), MaxTimelineOfOne)
		}
		if k.meta.timeline++; k.meta.timeline > MaxTimeline {
			return k.fail(TableTimeline, "it has more than %d events", MaxTimeline)
		}
	}
	return nil
}
