package pmdtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/clock"
)

// moved takes over the clock of a node.
func (c *cluster) moved(n *node, offset time.Duration) *clock.Clock {
	c.t.Helper()
	k, err := clock.Open(n.proc.PID())
	if err == nil {
		err = k.Set(offset)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := k.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return k
}

// terms gives the term of the cluster.
func (c *cluster) term() string {
	c.t.Helper()
	var term string
	c.eventually("a node tells its term", func() bool {
		a, err := c.do(c.nodes[0], http.MethodGet, "/api/v1/packages", "")
		term = a.header.Get("PM-Term")
		return err == nil && a.status == http.StatusOK
	})
	return term
}

// A clock that jumps costs nobody the leadership, nor an answer.
func TestJumpingClocksBreakNothing(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	c.created(c.nodes[0], "first")
	lead, follow := c.leader()
	term := c.term()
	leads, follows := c.moved(lead, 0), c.moved(follow, 0)
	var names []string
	for i, jump := range []struct {
		clock  *clock.Clock
		offset time.Duration
	}{{leads, time.Hour}, {leads, -time.Hour}, {follows, time.Hour}, {follows, -time.Hour}, {leads, 26 * time.Hour}, {leads, 0}, {follows, 0}} {
		if err := jump.clock.Set(jump.offset); err != nil {
			t.Fatal(err)
		}
		for k, n := range c.nodes {
			name := fmt.Sprintf("jump-%d-%d", i, k)
			if a, ok := c.create(n, name); !ok {
				t.Errorf("jump %d: %s refuses a write: %d %s", i, n.name, a.status, a.body)
			}
			names = append(names, name)
		}
		c.has(names...)
	}
	if now := c.term(); now != term {
		t.Errorf("the term was %s and is %s", term, now)
	}
}

// An answer is remembered for a day of the log's time, which the leader's clock does not
// shorten by a jump.
func TestAJumpDoesNotForgetIdempotencyKeys(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	post := func(n *node, key string) answer {
		a, err := c.do(n, http.MethodPost, "/api/v1/packages", fmt.Sprintf(`{"name":%q}`, key), "Idempotency-Key", key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	lead, follow := c.leader()
	if a := post(lead, "once"); a.status/100 != 2 {
		t.Fatalf("%+v", a)
	}
	for i, offset := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		c.moved(lead, offset)
		c.compared(lead, -offset)
		// Commands that carry the leader's time are what makes the log forget.
		for k := range 5 {
			c.created(follow, fmt.Sprintf("other-%d-%d", i, k))
		}
		if a := post(follow, "once"); a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("with the leader's clock off by %v: %+v", offset, a)
		}
		lead.kill()
		old := lead
		c.leader()
		c.start(old)
		c.ready()
		lead, follow = c.leader()
		if a := post(follow, "once"); a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("under the next leader: %+v", a)
		}
	}
}

// The times that users see are those of the majority, before and after the clocks are
// compared.
func TestTimesOfTheLogFollowTheMajority(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	c.created(c.nodes[0], "before")
	lead, _ := c.leader()
	k := c.moved(lead, 0)
	for i, offset := range []time.Duration{time.Hour, -time.Hour} {
		if err := k.Set(offset); err != nil {
			t.Fatal(err)
		}
		c.created(lead, fmt.Sprintf("jumped-%d", i))
		c.onTime(lead)
		c.compared(lead, -offset)
		c.created(lead, fmt.Sprintf("compared-%d", i))
		c.onTime(lead)
	}
}

// compared waits until a node has found out how far the others are ahead of it.
func (c *cluster) compared(n *node, ahead time.Duration) {
	c.t.Helper()
	c.eventually(n.name+" compares its clock", func() bool {
		a, err := c.do(n, http.MethodGet, "/metrics", "")
		if err != nil {
			return false
		}
		for line := range strings.Lines(a.body) {
			var seconds float64
			if _, err := fmt.Sscanf(line, "oaas_pm_raftstore_clock_offset_seconds %g", &seconds); err == nil {
				return (time.Duration(seconds*float64(time.Second)) - ahead).Abs() < time.Minute
			}
		}
		return false
	})
}

func (c *cluster) onTime(n *node) {
	c.t.Helper()
	if d := c.lag(n); d.Abs() > time.Minute {
		c.t.Errorf("the log's time is off by %v", d)
	}
}

// lag is how far the newest entry of the audit log is ahead of us.
func (c *cluster) lag(n *node) time.Duration {
	c.t.Helper()
	a, err := c.do(n, http.MethodGet, "/api/v1/operator/audit?limit=1", "")
	if err != nil || a.status != http.StatusOK {
		c.t.Fatalf("%v %+v", err, a)
	}
	var list []struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list) == 0 {
		c.t.Fatalf("the audit log is %.300s: %v", a.body, err)
	}
	return time.Until(list[0].Time)
}
