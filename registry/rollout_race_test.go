package registry_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// between runs once between a decision and its command.
func (s *site) between(do func()) {
	s.store.BeforeApply = func(*pmpb.Command) error {
		s.store.BeforeApply = nil
		do()
		return nil
	}
}

// What a cluster says between a decision and its command counts: the step that rested on the
// opposite is not taken.
func TestRolloutStepsRestOnWhatIs(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e1")
	s.later(time.Minute)
	s.between(func() { s.says(oaaspb.DeploymentCondition_DOWN, "e1") })
	s.advance()
	s.want("2 1 1")
	s.running("e1")
	s.later(time.Minute)
	s.between(func() { s.says(oaaspb.DeploymentCondition_DOWN, "e3") }) // one that has not had its turn
	s.advance()
	s.want("2 1 1")
}

// A vote is not given to one that has gone since it was looked at, nor is one left for it.
func TestMovesRestOnWhatIs(t *testing.T) {
	for name, happens := range map[string]func(s *movers, env string){
		"it is down":         func(s *movers, env string) { s.arrive(env, oaaspb.DeploymentCondition_DOWN) },
		"its cluster is not": func(s *movers, env string) { s.lose(env) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newMovers(t, "e1", "e2", "e3", "e4")
			s.policy("e4", &pmpb.ClusterPolicy{Cordoned: true})
			s.wish(0.999, quorum)
			s.settle()
			s.policy("e4", &pmpb.ClusterPolicy{})
			s.policy("e3", &pmpb.ClusterPolicy{Draining: true})
			s.drive()
			s.settle()
			s.between(func() { happens(s, "e1") }) // four votes would need three of them
			s.drive()
			if got := s.votes(); got == "e1 e2 e3 e4" {
				t.Errorf("votes are %s", got)
			}
		})
	}
}

// What a user takes away goes at once only if the rest is there when that takes effect.
func TestUpdatesRestOnWhatIs(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3")
	s.deploy("cart:1", "", "e1", "e2", "e3")
	s.settle()
	s.between(func() { s.arrive("e2", oaaspb.DeploymentCondition_DOWN) })
	s.deploy("cart:1", "", "e1", "e2")
	s.expect("the rest is not available", "e1 e2 e3-", "")
	s.settle()
	s.drive()
	s.expect("it is again", "e1 e2", "")
}

// A rollout that is planned anew again and again ends all the same: what was sent on the way
// is given its time once.
func TestDeadlineOutlivesPlans(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.running("e2", "e3")
	begun := s.now
	for amount := uint32(3); s.row().GetPhase() == progressing && amount < 30; amount++ {
		s.later(3 * time.Minute)
		doc := s.cartOf("2", careful)
		doc.Functions[0].ProvisionConfig.MinScale = &amount
		if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, doc); err != nil {
			t.Fatal(err)
		}
		s.running("e2", "e3")
		s.advance()
	}
	if took := s.now.Sub(begun); s.row().GetReason() != "ProgressDeadlineExceeded" || took < 20*time.Minute || took > 24*time.Minute {
		t.Errorf("after %s the rollout is %v", took, s.row())
	}
	if !strings.Contains(s.row().GetMessage(), "e1") {
		t.Errorf("it does not say for whom it waited: %s", s.row().GetMessage())
	}
}

// The time of a rollout stands still while it is paused, whatever is planned meanwhile.
func TestPlansInAPauseTakeNoTime(t *testing.T) {
	s := started(t, careful)
	s.advance()
	s.later(4 * time.Minute)
	if _, _, err := s.PauseRollout(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
	s.later(3 * time.Hour)
	doc, three := s.cartOf("2", careful), uint32(3)
	doc.Functions[0].ProvisionConfig.MinScale = &three
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, doc); err != nil {
		t.Fatal(err)
	}
	s.later(time.Hour)
	s.resume()
	if want := timestamppb.New(s.now.Add(10 * time.Minute)); !s.row().GetDeadline().AsTime().Equal(want.AsTime()) {
		t.Errorf("the deadline is in %s", s.row().GetDeadline().AsTime().Sub(s.now))
	}
}
