package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// health is what a lane knows of its cluster's reachability.
type health struct {
	contact liveness.Contact
	// ready is what the manager says of its API server, and problem what is wrong with it.
	ready   bool
	problem string
	// heard is when the manager last said anything in a session that was of use.
	heard time.Time
	// cause is why there is no session, nil while there is one. last is the last cause.
	cause, last error
	// refusing is since when the manager answers, but not the calls. Zero: it does.
	refusing time.Time
	// shown is what the metrics have.
	shown pmpb.ClusterHealth
}

func (h *health) up(ready bool, problem string, now time.Time) {
	h.contact.Found(now)
	h.ready, h.problem, h.cause, h.heard = ready, clip(problem), nil, now
}

// word notes that the manager has said something. Before its inventory is complete that is
// of no use, but no silence either, unless an attempt has failed before: a manager that
// never gets that far is not to be taken for one that is about to.
func (h *health) word(now time.Time) {
	switch {
	case h.contact.Up:
		h.heard = now
	case h.last == nil:
		h.contact.Since = now
	}
}

// down notes the end of a session. A silence that had begun before, as on a connection
// that was cut without a word, counts from the last word.
func (h *health) down(cause error, now time.Time, limits liveness.Limits) {
	lost := now
	if h.contact.Up && now.Sub(h.heard) > 2*limits.Renewal {
		lost = h.heard
	}
	h.contact.Lost(lost, limits)
	h.cause, h.last = cause, cause
}

// grade is the health to store for a cluster in a state, and why. What its manager says
// of itself matters while it is there.
func (h *health) grade(state liveness.State, now time.Time, limits liveness.Limits) (pmpb.ClusterHealth, string) {
	if state != liveness.Healthy {
		return healthOf[state], h.reason()
	}
	switch {
	case !h.contact.Up: // too soon to say more
		return pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED, ""
	case !h.ready && h.problem != "":
		return pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, h.problem
	case !h.ready:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager answers, its Kubernetes API server does not"
	case !h.refusing.IsZero() && now.Sub(h.refusing) >= limits.Renewal:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager reports, but does not answer calls"
	default:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, ""
	}
}

// notYet is the reason while there is no cause.
const notYet = "the manager has not answered yet"

// reason is why a cluster is away.
func (h *health) reason() string {
	why, untrusted := untrustedBecause(h.cause)
	switch {
	case h.contact.Brief >= liveness.Flapping:
		return "sessions with the manager keep ending: " + reasonOf(h.last)
	case h.contact.Up:
		return "the manager answers again, but not for long enough to count"
	case untrusted:
		return why
	case noAgent(h.cause):
		return ErrNoAgent.Error() + ": its manager has to connect by itself"
	case h.cause == nil:
		return notYet
	default:
		return "the manager does not answer: " + reasonOf(h.cause)
	}
}

// tells reports that a person has to act on the reason: a stranger answers, one that
// cannot be trusted, or nobody has connected.
func (h *health) tells() bool {
	_, untrusted := untrustedBecause(h.cause)
	return untrusted || noAgent(h.cause) || errors.Is(h.cause, errOtherCluster)
}

func reasonOf(cause error) string { return clip(status.Convert(cause).Message()) }

var healthOf = map[liveness.State]pmpb.ClusterHealth{
	liveness.Unknown:          pmpb.ClusterHealth_CLUSTER_HEALTH_UNKNOWN,
	liveness.Healthy:          pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY,
	liveness.Suspect:          pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT,
	liveness.Unreachable:      pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE,
	liveness.FailoverEligible: pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE,
}

func stateOf(h pmpb.ClusterHealth) liveness.State {
	switch h {
	case pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED:
		return liveness.Healthy
	case pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT:
		return liveness.Suspect
	case pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE:
		return liveness.Unreachable
	case pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE:
		return liveness.FailoverEligible
	default:
		return liveness.Unknown
	}
}

// finding is what a lane has to say of its cluster.
type finding struct {
	verdict liveness.Verdict
	health  pmpb.ClusterHealth
	// reason without, and message with what other nodes say.
	reason, message string
	// now is the time by which this node waits, and clock the same moment by the clock that
	// times are stored by. Times are carried from one to the other by what has elapsed since
	// or is left until: the node's wall clock may have been set in between.
	now, clock time.Time
	// level of features of the state.
	level uint32
}

// stored gives a time of this node by the clock that times are stored by.
func (f *finding) stored(t time.Time) time.Time { return f.clock.Add(t.Sub(f.now)) }

// own gives a stored time by the clock of this node.
func (f *finding) own(t time.Time) time.Time { return f.now.Add(t.Sub(f.clock)) }

func (f *finding) stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(f.stored(t)) }

// judge commits the cluster's health when it changed, and gives the time at which to look
// again. Only the state counts as changed: the text of an unreachable cluster's last error
// may vary by attempt. What a person has to act on is told all the same, and what other
// nodes find.
func (l *lane) judge(ctx context.Context, snap *fsm.Snapshot, now time.Time) time.Time {
	row := snap.Cluster(l.name)
	if row == nil {
		return time.Time{}
	}
	f := l.find(row, snap.FeatureLevel(), now)
	l.others.wanted = f.level >= fsm.FailoverFrom && !l.health.contact.Up && f.verdict.State >= liveness.Suspect
	if f.verdict.State <= liveness.Healthy {
		clear(l.others.said)
	}
	l.show(f.health)
	if f.health == pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED || !l.news(row, f) {
		return f.verdict.Next
	}
	if ok, _ := l.writes.pass(); !ok {
		return time.Time{} // one that keeps changing is told of as it is when there is a token again
	}
	err := l.opts.Registry.PutCluster(ctx, l.term, l.name, func(row *pmpb.Cluster) error {
		if row.GetAddress() != l.address {
			return fmt.Errorf("cluster %s moved to %s", l.name, row.GetAddress())
		}
		l.write(row, f)
		return nil
	})
	if err != nil {
		l.log.Warn("health not stored", "health", f.health, "error", err)
		return time.Time{}
	}
	l.log.Info("health changed", "health", f.health, "reason", f.message)
	return now // the next step may be due as well
}

// show puts the cluster's state into the metrics.
func (l *lane) show(health pmpb.ClusterHealth) {
	if health != pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED && health != l.health.shown {
		l.health.shown = health
		l.metrics.in(l.name, fsm.ClusterState(health))
	}
}

func (l *lane) find(row *pmpb.Cluster, level uint32, now time.Time) *finding {
	f := &finding{now: now, clock: l.opts.Clock().Round(0), level: level}
	stored := liveness.Stored{State: stateOf(row.GetHealth()), Coarse: level < fsm.FailoverFrom}
	if since := row.GetDisconnectedSince(); since != nil {
		stored.Since = f.own(since.AsTime())
	}
	f.verdict = l.opts.Health.Judge(stored, l.health.contact, l.others.sightings(now.Add(-l.opts.Health.Unreachable)), now)
	f.health, f.reason = l.health.grade(f.verdict.State, now, l.opts.Health)
	f.reason = clipTo(f.reason, maxText/2) // what is added is to fit as well
	f.message = clip(l.others.annotate(f.reason, f.verdict.Word, l.opts.Node))
	return f
}

// news reports that the finding differs from what is stored in something that is worth a
// write.
func (l *lane) news(row *pmpb.Cluster, f *finding) bool {
	if f.verdict.State == liveness.Unknown {
		told := strings.HasPrefix(row.GetHealthMessage(), f.reason)
		return l.health.tells() && !told && f.now.Sub(l.health.contact.Since) >= l.opts.Health.Suspect
	}
	if row.GetHealth() != f.health {
		return true
	}
	if f.verdict.State == liveness.Healthy {
		// A cluster that was healthy before its outages were kept is observed from now on.
		unobserved := f.level >= fsm.PlannerFrom && f.health == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && row.GetObservedSince() == nil
		untold := f.level >= fsm.FailoverFrom && (row.ApiServerReady == nil || row.GetApiServerReady() != l.health.ready)
		return unobserved || untold || row.GetDisconnectedSince() != nil
	}
	if f.level >= fsm.FailoverFrom && row.GetDisconnectedSince() == nil {
		return true // it was away before that was kept
	}
	if strings.HasPrefix(row.GetHealthMessage(), notYet) && !strings.HasPrefix(f.reason, notYet) {
		return true // there is a cause by now
	}
	otherWord := f.verdict.Word != liveness.None && f.verdict.Word != wordOf(row.GetObservations()) ||
		f.verdict.Word == liveness.Contradicted && !l.health.contact.Up && l.others.wellSeen() != row.GetApiServerReady()
	return otherWord || l.health.tells() && !strings.HasPrefix(row.GetHealthMessage(), f.reason) && !strings.Contains(row.GetHealthMessage(), "("+f.reason+")")
}

// write brings the cluster's row up to the finding.
func (l *lane) write(row *pmpb.Cluster, f *finding) {
	if f.level >= fsm.PlannerFrom {
		l.noteOutage(row, f)
	}
	if row.GetHealth() != f.health {
		row.HealthSince = f.stamp(f.now)
	}
	row.Health, row.HealthMessage = f.health, f.message
	if heard := l.health.heard; !heard.IsZero() {
		row.LastSeen = f.stamp(heard)
	}
	if f.level < fsm.FailoverFrom {
		return
	}
	switch {
	case l.health.contact.Up:
		ready := l.health.ready
		row.ApiServerReady = &ready
	case f.verdict.Word == liveness.Contradicted:
		ready := l.others.wellSeen()
		row.ApiServerReady = &ready
	}
	row.DisconnectedSince, row.Observations = nil, l.others.rows(f)
	if since := f.verdict.Since; !since.IsZero() {
		row.DisconnectedSince = f.stamp(since)
	}
}

// noteOutage keeps up the outages, from which the planner learns how often the cluster is
// up. That the leader does not reach it says so only as long as no other node does.
func (l *lane) noteOutage(row *pmpb.Cluster, f *finding) {
	at := f.clock
	v := f.verdict
	switch {
	case v.State <= liveness.Healthy:
		heard := l.health.heard
		if f.health == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && stateOf(row.GetHealth()) >= liveness.Suspect {
			heard = l.health.contact.Since
		}
		fsm.NoteHealth(row, f.health, stampedOr(heard, f), at)
	case v.Word == liveness.Contradicted && l.others.wellSeen():
		fsm.NoteReached(row, at)
	case v.Word == liveness.Contradicted:
		fsm.NoteHealth(row, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, at, at)
	default:
		start := v.Since
		if heard := l.health.heard; !heard.IsZero() && heard.Before(start) {
			start = heard
		}
		begin := f.stored(start)
		for _, o := range row.GetObservations() {
			if reached := o.GetTime().AsTime(); o.GetReachable() && reached.After(begin) {
				begin = reached
			}
		}
		fsm.NoteHealth(row, f.health, begin, at)
	}
}

// stampedOr gives a time by the clock that times are stored by; zero stays zero.
func stampedOr(t time.Time, f *finding) time.Time {
	if t.IsZero() {
		return t
	}
	return f.stored(t)
}
