package dispatch

import (
	"errors"
	"testing"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

func TestVerdict(t *testing.T) {
	const (
		unknown     = pmpb.ClusterHealth_CLUSTER_HEALTH_UNSPECIFIED
		healthy     = pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY
		degraded    = pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED
		unreachable = pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
		patience    = 5 * time.Second
	)
	broken := errors.New("broken")
	now := time.Unix(1000, 0)
	up := func(h *health) { h.up(true, now) }
	down := func(h *health) { h.down(broken, now, patience) }
	pass := func(d time.Duration) func(*health) { return func(*health) { now = now.Add(d) } }
	type steps []func(*health)
	for name, c := range map[string]struct {
		steps steps
		want  pmpb.ClusterHealth
	}{
		"never seen":               {steps{}, unknown},
		"seen":                     {steps{up}, healthy},
		"its API server is away":   {steps{up, func(h *health) { h.up(false, now) }}, degraded},
		"away for a moment":        {steps{up, pass(time.Minute), down, pass(time.Second)}, unknown},
		"away":                     {steps{up, pass(time.Minute), down, pass(patience)}, unreachable},
		"away, each try fails":     {steps{up, pass(time.Minute), down, pass(3 * time.Second), down, pass(3 * time.Second)}, unreachable},
		"back":                     {steps{up, pass(time.Minute), down, pass(time.Hour), up}, healthy},
		"two brief sessions":       {steps{up, down, up, down, up}, healthy},
		"three brief sessions":     {steps{up, down, up, down, up, down}, unreachable},
		"three, and there again":   {steps{up, down, up, down, up, down, up}, unreachable},
		"three, and one that held": {steps{up, down, up, down, up, down, up, pass(patience)}, healthy},
		"one that held between":    {steps{up, down, up, down, up, pass(patience), down, up, down, up}, healthy},
		"calls fail for a moment":  {steps{up, func(h *health) { h.refusing = now }, pass(time.Second)}, healthy},
		"calls fail":               {steps{up, func(h *health) { h.refusing = now }, pass(patience)}, degraded},
	} {
		h := &health{since: now}
		for _, step := range c.steps {
			step(h)
		}
		got, message := h.verdict(now, patience)
		if got != c.want || (message == "") != (got == healthy || got == unknown) {
			t.Errorf("%s: %s, %q, want %s", name, got, message, c.want)
		}
	}
}
