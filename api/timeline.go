package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// maxTimeline bounds the events of one answer, the newest.
const maxTimeline = 1000

// The events that are not told by the timeline but follow from the outages of clusters.
const (
	eventClusterUnhealthy = "ClusterUnhealthy"
	eventClusterHealthy   = "ClusterHealthy"
)

// timelineEvent is something that has happened to a deployment.
type timelineEvent struct {
	// ID is the same in every answer.
	ID string `json:"id"`
	// Index of the write that tells it; 0 for what follows from the outages of a cluster.
	Index uint64  `json:"index"`
	Time  *string `json:"time"`
	Type  string  `json:"type"`
	// Env is empty when it is about all of the deployment.
	Env        string `json:"env"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
	UID        string `json:"uid"`
	Generation uint64 `json:"generation"`
	Revision   uint64 `json:"revision"`

	at time.Time
}

// listEvents tells the timeline of a deployment, the oldest first: ?limit of them, the
// newest, and those of an ?env only. It outlives the deployment.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery)
	limit, env := q.number("limit"), q.text("env")
	if limit < 0 {
		limit = maxTimeline
	}
	if limit > maxTimeline || limit == 0 {
		q.wrong("limit", fmt.Sprintf("a number from 1 to %d", maxTimeline))
	}
	if q.err != nil {
		return q.err
	}
	key := pathVar(r, "key")
	callOf(r.Context()).deployment = key
	snap, err := s.read(w, r)
	if err != nil {
		return err
	}
	dep, told := snap.Deployment(key), snap.Timeline(key)
	if dep == nil && len(told) == 0 {
		return fail(registry.NotFound, "Deployment not found: %s", key)
	}
	list := []timelineEvent{}
	for _, e := range mergeOutages(told, outagesOf(snap, dep, told)) {
		if env == "" || e.Env == env || e.Env == "" {
			list = append(list, e)
		}
	}
	return writeJSON(w, http.StatusOK, list[max(len(list)-limit, 0):])
}

func newTimelineEvent(e *pmpb.TimelineEvent) timelineEvent {
	return timelineEvent{
		ID: fmt.Sprintf("%d-%d", e.GetIndex(), e.GetSequence()), Index: e.GetIndex(), Time: stampText(e.GetTime()), Type: e.GetType(),
		Env: e.GetEnv(), Reason: e.GetReason(), Message: e.GetMessage(), UID: e.GetDeploymentUid(), Generation: e.GetGeneration(),
		Revision: e.GetRevision(), at: e.GetTime().AsTime(),
	}
}

// outagesOf gives the outages of the clusters of a deployment in its time, by time.
func outagesOf(snap *fsm.Snapshot, dep *fsm.Deployment, told []*pmpb.TimelineEvent) []timelineEvent {
	if len(told) == 0 {
		return nil
	}
	from := told[0].GetTime().AsTime()
	envs := map[string]bool{}
	for _, e := range told {
		envs[e.GetEnv()] = true
	}
	if dep != nil {
		for _, u := range snap.UnitsByDeployment(dep.UID) {
			envs[u.GetEnv()] = true
		}
	}
	var out []timelineEvent
	add := func(env, kind, reason, message string, at time.Time) {
		if !at.Before(from) {
			out = append(out, timelineEvent{
				ID: fmt.Sprintf("%s-%s-%d", kind, env, at.UnixNano()), Time: timeText(at), Type: kind, Env: env, Reason: reason, Message: message, at: at,
			})
		}
	}
	for env := range envs {
		c := snap.Cluster(env)
		for _, o := range c.GetOutages() {
			reason, message := "", ""
			if o.GetPlanned() {
				reason = "Planned"
			}
			if o.GetEnd() == nil {
				message = c.GetHealthMessage()
			}
			add(env, eventClusterUnhealthy, reason, message, o.GetStart().AsTime())
			if o.GetEnd() != nil {
				add(env, eventClusterHealthy, "", "", o.GetEnd().AsTime())
			}
		}
	}
	slices.SortFunc(out, func(a, b timelineEvent) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.ID, b.ID)) })
	return out
}

// mergeOutages puts outages where they belong among what was told, which stays in the order
// of the log: the clocks of two leaders may differ.
func mergeOutages(told []*pmpb.TimelineEvent, outages []timelineEvent) []timelineEvent {
	out := make([]timelineEvent, 0, len(told)+len(outages))
	for _, e := range told {
		next := newTimelineEvent(e)
		for len(outages) > 0 && outages[0].at.Before(next.at) {
			out, outages = append(out, outages[0]), outages[1:]
		}
		out = append(out, next)
	}
	return append(out, outages...)
}
