package dispatch

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/proto/pmpb"
)

// What a manager says of itself grades a cluster that is there, and the last error says
// why one is not.
func TestGrade(t *testing.T) {
	limits := liveness.Limits{}.WithDefaults()
	now := time.Unix(1000, 0)
	broken := errors.New("broken")
	up := func(h *health) { h.up(true, "", now) }
	down := func(cause error) func(*health) { return func(h *health) { h.down(cause, now, limits) } }
	pass := func(d time.Duration) func(*health) { return func(*health) { now = now.Add(d) } }
	type steps []func(*health)
	for name, c := range map[string]struct {
		steps   steps
		state   liveness.State
		want    pmpb.ClusterHealth
		message string
	}{
		"there":                   {steps{up}, liveness.Healthy, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, ""},
		"not known to be away":    {steps{up, down(broken)}, liveness.Healthy, pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED, ""},
		"its API server is away":  {steps{func(h *health) { h.up(false, "", now) }}, liveness.Healthy, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager answers, its Kubernetes API server does not"},
		"calls fail for a moment": {steps{up, func(h *health) { h.refusing = now }, pass(time.Second)}, liveness.Healthy, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, ""},
		"calls fail":              {steps{up, func(h *health) { h.refusing = now }, pass(limits.Renewal)}, liveness.Healthy, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, "the manager reports, but does not answer calls"},
		"suspected":               {steps{up, down(broken)}, liveness.Suspect, pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT, "the manager does not answer: broken"},
		"never heard":             {steps{}, liveness.Unreachable, pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, "the manager has not answered yet"},
		"not trusted":             {steps{down(status.Error(codes.Unavailable, ErrUntrusted.Error()+": it is a stranger"))}, liveness.Unreachable, pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, "no trusted connection to the manager: it is a stranger"},
		"no agent":                {steps{down(status.Error(codes.Unavailable, ErrNoAgent.Error()))}, liveness.FailoverEligible, pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE, ErrNoAgent.Error() + ": its manager has to connect by itself"},
		"answers again":           {steps{down(broken), up}, liveness.Unreachable, pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, "the manager answers again, but not for long enough to count"},
		"flapping":                {steps{up, down(broken), up, down(broken), up, down(broken), up}, liveness.Suspect, pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT, "sessions with the manager keep ending: broken"},
	} {
		h := &health{contact: liveness.Began(now)}
		for _, step := range c.steps {
			step(h)
		}
		if got, message := h.grade(c.state, now, limits); got != c.want || got != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY && got != 0 && message != c.message {
			t.Errorf("%s: %s, %q, want %s, %q", name, got, message, c.want, c.message)
		}
	}
}

// A session that ends after renewals were missed was lost when the manager was last heard;
// one that is closed is lost then.
func TestSilenceBeginsWithTheLastWord(t *testing.T) {
	limits := liveness.Limits{}.WithDefaults()
	for name, c := range map[string]struct{ silent, want time.Duration }{
		"closed":                      {3 * time.Second, 3 * time.Second},
		"a renewal is late":           {9 * time.Second, 9 * time.Second},
		"cut off without a word":      {15 * time.Second, 0},
		"noticed much later, as well": {20 * time.Minute, 0},
	} {
		heard := time.Unix(1000, 0)
		h := &health{contact: liveness.Began(heard.Add(-time.Hour))}
		h.up(true, "", heard.Add(-time.Minute))
		h.heard = heard
		h.down(errSilent, heard.Add(c.silent), limits)
		if got := h.contact.Since.Sub(heard); got != c.want {
			t.Errorf("%s: lost %s after the last word, want %s", name, got, c.want)
		}
	}
}
