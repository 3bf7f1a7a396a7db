package registry_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

func TestFailover(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4", "e5", "e6")
	for _, env := range []string{"e3", "e4", "e5", "e6"} {
		s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
	}
	s.wish(0.9999, automatic)
	s.settle()
	for _, env := range []string{"e3", "e4", "e5", "e6"} {
		s.policy(env, &pmpb.ClusterPolicy{})
	}
	s.lose("e2")
	fence := s.unit("e2").GetFence()
	if p := s.drive(); p.Begun != 0 && p.Begun != pmpb.MoveReason_MOVE_REASON_FAILOVER {
		t.Errorf("progress is %+v", p)
	}
	if !s.dep().Leaves("e2") || s.unit("e2").GetFence() != fence {
		t.Fatalf("it runs in %s", s.live())
	}
	s.finish()
	if strings.Contains(s.live(), "e2") || len(strings.Fields(s.live())) != 2 {
		t.Errorf("it runs in %s", s.live())
	}
	var tombstone bool
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		tombstone = tombstone || u.GetTombstone() && u.GetEnv() == "e2"
	}
	if !tombstone || len(s.dep().Move.GetFailovers()) != 1 {
		t.Errorf("tombstone %v, move %v", tombstone, s.dep().Move)
	}

	// Another one in the same hour: it is held down for five minutes.
	next := strings.Fields(s.live())[0]
	s.now = s.now.Add(time.Minute)
	s.health("e2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.lose(next)
	s.drive()
	if s.dep().Move.GetHeld().GetCode() != "BudgetExhausted" {
		t.Fatalf("it moves again at once: %v", s.dep().Move)
	}
	s.now = s.now.Add(5 * time.Minute)
	s.drive()
	if !s.dep().Leaves(next) {
		t.Fatalf("it does not move: %v", s.dep().Move)
	}
	s.finish()
	// And a third one has to wait for the first to be an hour ago.
	third := strings.Fields(s.live())[0]
	s.health(next, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.now = s.now.Add(20 * time.Minute)
	s.lose(third)
	s.drive()
	if s.dep().Move.GetHeld().GetCode() != "BudgetExhausted" {
		t.Fatalf("it moves too often: %v", s.dep().Move)
	}
	s.health(third, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.drive()
	if s.dep().Move.GetHeld() != nil {
		t.Errorf("it is held though it is well: %v", s.dep().Move)
	}
}

// Without a wish for it nothing moves, and neither does what fails inside of a cluster.
func TestNoFailover(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4", "e5")
	s.wish(0.99, "")
	s.settle()
	at := s.live()
	s.lose(at)
	s.drive()
	s.expect("it does not wish so", at, "")

	s.health(at, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.wish(0.99, automatic)
	s.settle()
	u := s.unit(at)
	s.told(&pmpb.UnitUpdate{Id: u.GetId(), Fence: u.GetFence(), Epoch: u.GetEpoch(), Update: &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
		Id: u.GetId(), DeploymentUnitId: u.GetId(), Status: &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_DOWN},
	}}})
	s.drive()
	s.expect("it is down by itself", at, "")
	for _, health := range []pmpb.ClusterHealth{
		pmpb.ClusterHealth_CLUSTER_HEALTH_SUSPECT, pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED,
	} {
		s.health(at, health)
		s.now = s.now.Add(time.Hour)
		s.drive()
		s.expect("too soon", at, "")
	}
}

// A rollout that is under way does not keep a deployment from leaving what is lost.
func TestFailoverInARollout(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4", "e5")
	for _, env := range []string{"e3", "e4", "e5"} {
		s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
	}
	s.wish(0.9999, automatic+`,"rollout":{"canary":1,"min_healthy_time":"0s"}`)
	s.settle()
	for _, env := range []string{"e3", "e4", "e5"} {
		s.policy(env, &pmpb.ClusterPolicy{})
	}
	doc := fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":0.9999}%s,"rollout":{"canary":1,"min_healthy_time":"0s"},
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:2"}}]}`, automatic)
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, doc)); err != nil {
		t.Fatal(err)
	}
	s.policy("e1", &pmpb.ClusterPolicy{Draining: true})
	s.drive()
	s.expect("a drain waits", "e1 e2", "RolloutInProgress")
	s.policy("e1", &pmpb.ClusterPolicy{})
	s.lose("e2")
	s.drive()
	if !s.dep().Leaves("e2") {
		t.Fatalf("it stays: %s %v", s.live(), s.dep().Move)
	}
	s.finish()
	if strings.Contains(s.live(), "e2") || s.row().GetRevision() != 2 {
		t.Errorf("it runs in %s; its rollout is %v", s.live(), s.row())
	}
}

func TestReturn(t *testing.T) {
	for _, tt := range []struct {
		policy string
		back   bool
	}{{automatic, false}, {returning, true}} {
		s := newMovers(t, "e1", "e2", "e3", "e4", "e5")
		for _, env := range []string{"e3", "e4", "e5"} {
			s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
		}
		s.wish(0.9999, tt.policy)
		s.settle()
		for _, env := range []string{"e3", "e4", "e5"} {
			s.policy(env, &pmpb.ClusterPolicy{})
		}
		s.lose("e2")
		s.drive()
		s.finish()
		away := s.live()
		s.now = s.now.Add(time.Hour)
		s.health("e2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
		s.settle()
		s.now = s.now.Add(registry.ReturnAfter - time.Second)
		s.drive()
		s.expect("too soon", away, "")
		s.now = s.now.Add(time.Second)
		s.drive()
		if !tt.back {
			s.expect("it stays", away, "")
			continue
		}
		if !strings.Contains(s.live(), "e2 ") || len(s.dep().Move.GetLeaving()) != 1 {
			t.Fatalf("it runs in %s", s.live())
		}
		s.finish()
		s.expect("it is back", "e1 e2", "")
		s.now = s.now.Add(time.Hour)
		s.drive()
		s.expect("and stays", "e1 e2", "")
		if len(s.dep().Move.GetLost()) != 0 {
			t.Errorf("it would go again: %v", s.dep().Move)
		}
	}
}

// Where it goes is not enough any more, and what it leaves is well again: it is planned anew.
func TestStuckMovesAreLoosened(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4", "e5", "e6")
	for _, env := range []string{"e3", "e4", "e5", "e6"} {
		s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
	}
	s.wish(0.9999, automatic)
	s.settle()
	s.policy("e3", &pmpb.ClusterPolicy{})
	s.lose("e2")
	s.drive()
	s.expect("it leaves", "e1 e2- e3", "")
	s.settle()
	// All that can be asked for now needs three.
	s.health("e2", pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
	s.policy("e2", &pmpb.ClusterPolicy{Cordoned: true})
	s.wish(0.999999, automatic)
	s.settle()
	s.now = s.now.Add(time.Minute)
	s.drive()
	s.expect("what it leaves is needed", "e1 e2- e3", "AvailabilityWouldDrop")
	s.now = s.now.Add(5 * time.Minute)
	s.drive()
	s.expect("it stays where it was", "e1 e2 e3", "")
}

// When too many are lost at once nothing moves by itself, but for what operators ask for.
func TestFleetBreaker(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4", "e5")
	for _, env := range []string{"e3", "e4", "e5"} {
		s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
	}
	s.wish(0.9999, automatic)
	s.settle()
	for _, env := range []string{"e3", "e4", "e5"} {
		s.policy(env, &pmpb.ClusterPolicy{})
	}
	s.lose("e2", "e5")
	if v := registry.FleetVerdict(s.snap(), s.now); !v.Suspected || v.Lost != 2 || v.Total != 5 {
		t.Fatalf("the verdict is %+v", v)
	}
	s.drive()
	s.expect("the fleet looks partitioned", "e1 e2", "")
	s.policy("e1", &pmpb.ClusterPolicy{Draining: true})
	s.drive()
	if !s.dep().Leaves("e1") || s.dep().Leaves("e2") {
		t.Fatalf("a drain does not go on: %s %v", s.live(), s.dep().Move)
	}
	s.policy("e1", &pmpb.ClusterPolicy{})
	s.policy("e5", &pmpb.ClusterPolicy{Cordoned: true})
	if v := registry.FleetVerdict(s.snap(), s.now); v.Suspected {
		t.Errorf("what operators know of counts: %+v", v)
	}
	s.drive()
	if !s.dep().Leaves("e2") {
		t.Errorf("it stays: %s %v", s.live(), s.dep().Move)
	}
}
