package registry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// named deploys with a quorum in environments by name.
func (s *movers) named(more string, envs ...string) {
	s.t.Helper()
	doc := fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.9},"target_envs":["%s"]%s,
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:1"}}]}`, strings.Join(envs, `","`), quorum+more)
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(s.t, doc)); err != nil {
		s.t.Fatal(err)
	}
}

// steps lets a deployment with a quorum go on until nothing changes, and gives who held votes
// on the way. Every shard keeps its number, its node and its partition.
func (s *movers) steps() []string {
	s.t.Helper()
	var out []string
	ever := map[uint64]string{}
	for range 20 {
		s.drive()
		if now := s.votes(); len(out) == 0 || out[len(out)-1] != now {
			out = append(out, now)
		}
		for id, at := range s.shards() {
			if was, known := ever[id]; known && was != at {
				s.t.Fatalf("shard %d was %s and is %s: %q", id, was, at, out)
			}
			ever[id] = at
		}
		s.drive() // what has not arrived changes nothing
		s.settle()
	}
	return out
}

// A quorum that grows or shrinks does not count on what is not there, nor gives up what holds
// a majority before others know.
func TestQuorumsChangeTheirSize(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		want           []string
	}{
		{"one becomes three", "e1", "e1 e2 e3", []string{"e1 e2? e3?", "e1 e2 e3?", "e1 e2 e3"}},
		{"three become five", "e1 e2 e3", "e1 e2 e3 e4 e5", []string{"e1 e2 e3 e4? e5?", "e1 e2 e3 e4 e5?", "e1 e2 e3 e4 e5"}},
		{"three become four", "e1 e2 e3", "e1 e2 e3 e4", []string{"e1 e2 e3 e4?", "e1 e2 e3 e4"}},
		{"three become one", "e1 e2 e3", "e2", []string{"e1? e2 e3", "e2 e3", "e2 e3?", "e2"}},
		{"five become three", "e1 e2 e3 e4 e5", "e1 e2 e3", nil},
		{"one for two", "e1 e2 e3", "e3 e4 e5", nil},
		{"more than those that leave", "e1 e2 e3", "e1 e2 e4 e5 e6", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMovers(t, "e1", "e2", "e3", "e4", "e5", "e6")
			s.named("", strings.Fields(tt.from)...)
			s.settle()
			s.named("", strings.Fields(tt.to)...)
			got := s.steps()
			if tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("votes were %q, want %q", got, tt.want)
			}
			if s.expect("in the end", tt.to, ""); got[len(got)-1] != tt.to || s.dep().Move != nil {
				t.Errorf("votes were %q, the move is %v", got, s.dep().Move)
			}
			fence := s.unit(strings.Fields(tt.to)[0]).GetFence()
			s.named("", strings.Fields(tt.to)...)
			if s.unit(strings.Fields(tt.to)[0]).GetFence() != fence {
				t.Error("its last layout is not that of its plan")
			}
		})
	}
}

// One that never comes has no vote, and is told of.
func TestQuorumsDoNotCountOnWhatIsNotThere(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4")
	s.named("", "e1")
	s.settle()
	s.named("", "e1", "e2", "e3")
	for range 3 {
		s.arrive("e1", oaaspb.DeploymentCondition_RUNNING)
		s.arrive("e2", oaaspb.DeploymentCondition_RUNNING)
		s.drive()
		s.now = s.now.Add(time.Minute)
	}
	s.expect("one is missing", "e1 e2 e3", "ReplacementNotAvailable")
	if got := s.votes(); got != "e1 e2 e3?" {
		t.Errorf("votes are %s", got)
	}
	modified := s.dep().ModifyIndex
	for range 3 {
		s.policy("e1", &pmpb.ClusterPolicy{Draining: true})
		s.drive()
		s.policy("e1", &pmpb.ClusterPolicy{})
		s.drive()
	}
	if s.dep().ModifyIndex != modified {
		t.Errorf("it is written again and again: %v", s.dep().Move)
	}
	s.named("", "e1")
	s.steps()
	s.expect("it is not wanted any more", "e1", "")
	if s.dep().Move != nil || s.votes() != "e1" {
		t.Errorf("the move is %v, votes are %s", s.dep().Move, s.votes())
	}
	if level := s.snap().FeatureLevel(); level != fsm.FailoverFrom {
		t.Errorf("level %d", level)
	}
}

// A rollout leaves a majority of the votes alone while they move: one that is lost is down, and
// one that joins has none yet.
func TestRolloutsLeaveTheMajorityOfMovingQuorums(t *testing.T) {
	const waves = `,"failover":{"mode":"automatic","after":"1m"},"rollout":{"max_unavailable":2,"min_healthy_time":"0s","on_failure":"keep"}`
	ctx := context.Background()
	// image posts another one, with the wish for environments if any.
	image := func(s *movers, n int, more string) {
		doc := fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.999}%s,
			"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:%d"}}]}`, quorum+waves+more, n)
		if _, _, err := s.Deploy(ctx, registry.RequestInfo{}, decodeDeployment(t, doc)); err != nil {
			t.Fatal(err)
		}
	}
	advance := func(s *movers) {
		if _, err := s.AdvanceRollout(ctx, s.term, "shop.Cart", time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	// old counts the votes whose holders have what they had before.
	old := func(s *movers, holders ...string) (n int) {
		for _, env := range holders {
			if s.image(env) == "cart:1" {
				n++
			}
		}
		return n
	}
	t.Run("failover", func(t *testing.T) {
		s := newMovers(t, "e1", "e2", "e3", "e4")
		s.policy("e4", &pmpb.ClusterPolicy{Cordoned: true})
		image(s, 1, "")
		s.settle()
		s.expect("deployed", "e1 e2 e3", "")
		s.policy("e4", &pmpb.ClusterPolicy{})
		s.lose("e3")
		s.drive()
		s.expect("it moves", "e1 e2 e3- e4", "")
		s.settle()
		image(s, 2, "")
		s.settle()
		advance(s)
		if n := old(s, "e1", "e2"); n != 2 {
			t.Errorf("of three votes one is lost, and %d are left: %v", n, s.dep().Move)
		}
		for range 20 {
			s.drive()
			advance(s)
			s.settle()
		}
		s.expect("in the end", "e1 e2 e4", "")
		if n := old(s, "e1", "e2", "e4"); n != 0 || s.snap().Rollout("shop.Cart").GetPhase() != complete {
			t.Errorf("%d have not changed: %v", n, s.snap().Rollout("shop.Cart"))
		}
	})
	t.Run("growth", func(t *testing.T) {
		s := newMovers(t, "e1", "e2", "e3", "e4", "e5")
		image(s, 1, `,"target_envs":["e1","e2","e3"]`)
		s.settle()
		image(s, 2, `,"target_envs":["e1","e2","e3","e4","e5"]`)
		s.settle()
		advance(s)
		if n := old(s, "e1", "e2", "e3"); n < 2 {
			t.Errorf("of three votes %d are left: %v", n, s.dep().Move)
		}
		for range 20 {
			s.drive()
			advance(s)
			s.settle()
		}
		s.expect("in the end", "e1 e2 e3 e4 e5", "")
		if n := old(s, s.envs...); n != 0 || s.dep().Move != nil {
			t.Errorf("%d have not changed: %v", n, s.dep().Move)
		}
	})
}
