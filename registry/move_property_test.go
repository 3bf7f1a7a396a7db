package registry_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// chance is the probability that the deployment is not available with what serves now: any
// environment that can be reached and runs something, each of which is up 99 % of the time.
func (s *movers) chance(voting bool) float64 {
	n, members := 0, 0
	votes := s.dep().Move.GetVoters()
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		lost := s.snap().Cluster(u.GetEnv()).GetHealth() >= pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE
		if u.GetTombstone() || voting && len(votes) > 0 && !slices.Contains(votes, u.GetEnv()) {
			continue
		}
		members++
		if !lost && u.GetRuntime().GetStatus().GetCondition() == oaaspb.DeploymentCondition_RUNNING {
			n++
		}
	}
	need := 1
	if voting {
		need = members/2 + 1
	}
	loss := 0. // that fewer than needed of those are up
	for up := range min(need, n+1) {
		loss += float64(new(big.Int).Binomial(int64(n), int64(up)).Int64()) * math.Pow(.99, float64(up)) * math.Pow(.01, float64(n-up))
	}
	return loss
}

// arrive lets one environment run what it is to run, or fail at it.
func (s *movers) arrive(env string, condition oaaspb.DeploymentCondition) {
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		if u.GetEnv() != env || u.GetTombstone() || s.snap().Cluster(env).GetHealth() != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
			continue
		}
		about := func() *pmpb.UnitUpdate {
			return &pmpb.UnitUpdate{Id: u.GetId(), Fence: u.GetFence(), Epoch: u.GetEpoch()}
		}
		acked, runs := about(), about()
		acked.Update = &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()}}
		runs.Update = &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
			Id: u.GetId(), DeploymentUnitId: u.GetId(), Status: &oaaspb.ClassRuntimeStatus{Condition: condition},
			Delivery: &oaaspb.Delivery{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()},
		}}
		s.told(acked, runs)
	}
}

// keepsShards reports shards that are not where they were before.
func (s *movers) keepsShards(rt *rapid.T, ever map[uint64]string) {
	for id, at := range s.shards() {
		if was, known := ever[id]; known && was != at {
			rt.Fatalf("shard %d was %s and is %s: %v", id, was, at, s.dep().Move)
		}
		ever[id] = at
	}
}

// keepsHolders reports that a unit has gone together with its vote. before is the move as it
// was, were the environments.
func (s *movers) keepsHolders(rt *rapid.T, before *pmpb.Move, were string) {
	now := strings.Fields(strings.ReplaceAll(s.live(), "-", ""))
	for _, env := range strings.Fields(strings.ReplaceAll(were, "-", "")) {
		if !slices.Contains(now, env) && slices.Contains(before.GetVoters(), env) {
			rt.Fatalf("%s was withdrawn with its vote: %v, %v", env, before, s.dep().Move)
		}
	}
}

// Whatever users, operators and clusters do, nothing that the leader does makes a deployment
// less available than it is and is to be; when they stop, it comes to rest and stays there.
func TestMovesOfAnyHistory(t *testing.T) {
	envs := []string{"e1", "e2", "e3", "e4", "e5", "e6"}
	targets := []float64{.99, .9999, .999999}
	rapid.Check(t, func(rt *rapid.T) {
		s := newMovers(t, envs...)
		permitted, voting, grid := 0., rapid.Bool().Draw(rt, "voting"), ""
		if voting {
			grid = quorum
		}
		wish := func() {
			target := rapid.SampledFrom(targets).Draw(rt, "target")
			more := rapid.SampledFrom([]string{"", automatic, returning}).Draw(rt, "failover")
			doc := fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":%v}%s,
				"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:%d"}}]}`, target, more+grid, rapid.IntRange(1, 2).Draw(rt, "image"))
			switch _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(t, doc)); {
			case err == nil:
				permitted = 1 - target
			case registry.CodeOf(err) != registry.InvalidArgument: // there may be no place for it
				rt.Fatal(err)
			}
		}
		wish()
		s.settle()
		ever := map[uint64]string{}
		lead := func() (wrote bool) {
			keys := map[string]func(context.Context, uint64, string) (*registry.MoveProgress, error){}
			for _, one := range s.Relocations(s.snap()) {
				keys[one.Key] = s.Relocate
			}
			for _, do := range []func(context.Context, uint64, string) (*registry.MoveProgress, error){keys["shop.Cart"], s.AdvanceMove} {
				if do == nil {
					continue
				}
				before, at := s.chance(voting), s.snap().Index()
				holders, were := s.dep().Move, s.live()
				if _, err := do(context.Background(), 0, "shop.Cart"); err != nil {
					rt.Fatal(err)
				}
				if voting {
					s.keepsShards(rt, ever)
					s.keepsHolders(rt, holders, were)
				}
				if after := s.chance(voting); after > max(before, permitted)*(1+1e-9) {
					rt.Fatalf("loss %v became %v, permitted %v: %s %v", before, after, permitted, s.live(), s.dep().Move)
				}
				wrote = wrote || s.snap().Index() != at
			}
			return wrote
		}
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			env := rapid.SampledFrom(envs).Draw(rt, "env")
			switch rapid.SampledFrom([]string{"wish", "replan", "health", "drain", "arrive", "arrive", "arrive", "time", "lead", "lead", "lead"}).Draw(rt, "event") {
			case "wish":
				wish()
			case "replan":
				if _, _, err := s.Replan(context.Background(), registry.RequestInfo{}, "shop.Cart", false); err != nil && registry.CodeOf(err) != registry.InvalidArgument {
					rt.Fatal(err)
				}
			case "health":
				if rapid.Bool().Draw(rt, "lost") {
					s.lose(env)
				} else {
					s.health(env, rapid.SampledFrom([]pmpb.ClusterHealth{
						pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY, pmpb.ClusterHealth_CLUSTER_HEALTH_DEGRADED,
					}).Draw(rt, "health"))
				}
			case "drain":
				s.policy(env, &pmpb.ClusterPolicy{Draining: rapid.Bool().Draw(rt, "drains")})
			case "arrive":
				s.arrive(env, rapid.SampledFrom([]oaaspb.DeploymentCondition{
					oaaspb.DeploymentCondition_RUNNING, oaaspb.DeploymentCondition_RUNNING, oaaspb.DeploymentCondition_RUNNING, oaaspb.DeploymentCondition_DOWN,
				}).Draw(rt, "condition"))
			case "time":
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(rt, "seconds")) * time.Second)
			case "lead":
				lead()
			}
		}
		// One is drained for good, and all is well otherwise.
		for i, env := range envs {
			s.health(env, pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY)
			s.policy(env, &pmpb.ClusterPolicy{Draining: i == 0})
		}
		for range 60 {
			s.now = s.now.Add(10 * time.Minute)
			s.settle()
			lead()
		}
		if m := s.dep().Move; voting && len(m.GetVoters()) > 0 && len(m.GetVoters()) < 3 && m.GetHeld().GetCode() == "AvailabilityWouldDrop" {
			return // one or two votes cannot go elsewhere without being fewer or more
		} else if len(m.GetLeaving()) > 0 || m.GetHeld() != nil || registry.DrainOf(s.snap(), s.snap().Cluster("e1")).Moved == 0 && s.unit("e1") != nil {
			rt.Fatalf("it has not come to rest: %s %v", s.live(), m)
		}
		for range 5 {
			s.now = s.now.Add(10 * time.Minute)
			if lead() {
				rt.Fatalf("it goes on and on: %s %v", s.live(), s.dep().Move)
			}
		}
		if level := s.snap().FeatureLevel(); level != fsm.FailoverFrom {
			rt.Fatalf("at level %d nothing of this is tested", level)
		}
	})
}
