package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// health is what a lane knows of its cluster's reachability.
type health struct {
	// since is when the present state began.
	since time.Time
	// seen is true once the manager has answered in this session, which began to be
	// of use then.
	seen  bool
	began time.Time
	// ready is what the manager says of its API server.
	ready bool
	// heard is when the manager last answered.
	heard time.Time
	// cause is why there is no session, nil while there is one. last is the last cause.
	cause, last error
	// brief counts the sessions in a row that ended soon.
	brief int
	// refusing is since when the manager answers, but not the calls. Zero: it does.
	refusing time.Time
}

// flapping is after how many brief sessions in a row a cluster is not believed to be
// back before a session has lasted.
const flapping = 3

func (h *health) up(ready bool, now time.Time) {
	if !h.seen {
		h.began = now
	}
	h.seen, h.ready, h.cause, h.heard = true, ready, nil, now
}

func (h *health) down(cause error, now time.Time, patience time.Duration) {
	switch {
	case !h.seen: // it was not there
	case now.Sub(h.began) < patience:
		h.brief++
	default:
		h.brief = 0
	}
	if h.cause == nil {
		h.since = now
	}
	h.seen, h.cause, h.last = false, cause, cause
}

// verdict is the health to store, or unspecified while it is too early to say.
func (h *health) verdict(now time.Time, patience time.Duration) (pmpb.ClusterHealth, string) {
	switch {
	case h.brief >= flapping && (!h.seen || now.Sub(h.began) < patience):
		return pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, "sessions with the manager keep ending: " + reasonOf(h.last)
	case h.seen && h.ready && !h.refusing.IsZero() && now.Sub(h.refusing) >= patience:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager reports, but does not answer calls"
	case h.seen && h.ready:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, ""
	case h.seen:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager answers, its Kubernetes API server does not"
	case h.cause != nil && now.Sub(h.since) >= patience:
		if why, untrusted := untrustedBecause(h.cause); untrusted {
			return pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, why
		}
		if noAgent(h.cause) {
			return pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, ErrNoAgent.Error() + ": its manager has to connect by itself"
		}
		return pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, "the manager does not answer: " + reasonOf(h.cause)
	default:
		return pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED, ""
	}
}

func reasonOf(cause error) string { return clip(status.Convert(cause).Message()) }

// judge commits the cluster's health when it changed. Only the state counts as
// changed: the text of an unreachable cluster's last error may vary by attempt.
// That a stranger answers, or one that cannot be trusted, is told all the same, since
// a person has to act; and so is that nobody has connected, which says where to look.
func (l *lane) judge(ctx context.Context, snap *fsm.Snapshot, now time.Time) {
	verdict, message := l.health.verdict(now, l.opts.UnreachableAfter)
	row := snap.Cluster(l.name)
	if verdict == pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED || row == nil {
		return
	}
	_, untrusted := untrustedBecause(l.health.cause)
	news := (untrusted || noAgent(l.health.cause) || errors.Is(l.health.cause, errOtherCluster)) && row.GetHealthMessage() != message
	keeping := snap.FeatureLevel() >= fsm.PlannerFrom
	// A cluster that was healthy before its outages were kept is observed from now on.
	unobserved := keeping && verdict == pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && row.GetObservedSince() == nil
	if row.GetHealth() == verdict && !news && !unobserved {
		return
	}
	if ok, _ := l.writes.pass(); !ok {
		return // one that keeps changing is told of as it is when there is a token again
	}
	err := l.opts.Registry.PutCluster(ctx, l.term, l.name, func(row *pmpb.Cluster) error {
		if row.GetAddress() != l.address {
			return fmt.Errorf("cluster %s moved to %s", l.name, row.GetAddress())
		}
		if keeping {
			fsm.NoteHealth(row, verdict, l.health.heard, now)
		}
		if row.GetHealth() != verdict || news {
			row.HealthSince = timestamppb.New(now)
		}
		row.Health, row.HealthMessage = verdict, message
		if !l.health.heard.IsZero() {
			row.LastSeen = timestamppb.New(l.health.heard)
		}
		return nil
	})
	if err != nil {
		l.log.Warn("health not stored", "health", verdict, "error", err)
		return
	}
	l.log.Info("health changed", "health", verdict, "reason", message)
}
