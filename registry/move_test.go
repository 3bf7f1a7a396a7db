package registry_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/registry"
)

// movers is a site whose deployments move.
type movers struct{ *site }

func newMovers(t *testing.T, envs ...string) *movers {
	s := &movers{newSite(t, envs...)}
	s.level(fsm.FailoverFrom)
	return s
}

// wish deploys with an availability, a kind of shards and more members of the document.
func (s *movers) wish(availability float64, more string) {
	s.t.Helper()
	doc := fmt.Sprintf(`{"key":"shop.Cart","package_name":"shop","class_key":"Cart","nfr_requirements":{"availability":%v}%s,
		"functions":[{"function_key":"Cart.add","provision_config":{"container_image":"cart:1"}}]}`, availability, more)
	if _, _, err := s.Deploy(context.Background(), registry.RequestInfo{}, decodeDeployment(s.t, doc)); err != nil {
		s.t.Fatal(err)
	}
}

const (
	quorum    = `,"odgm":{"collections":["shop.Cart"],"shard_type":"raft","partition_count":3}`
	automatic = `,"failover":{"mode":"automatic","after":"1m","max_per_hour":2}`
	returning = `,"failover":{"mode":"automatic","after":"1m","on_return":"return"}`
)

func (s *movers) policy(env string, p *pmpb.ClusterPolicy) {
	s.t.Helper()
	if _, err := s.PutClusterPolicy(context.Background(), registry.RequestInfo{}, env, p, false); err != nil {
		s.t.Fatal(err)
	}
}

// lose makes a cluster eligible for failover, as one that was last heard long ago.
func (s *movers) lose(envs ...string) {
	s.t.Helper()
	for _, env := range envs {
		err := s.PutCluster(context.Background(), 0, env, func(row *pmpb.Cluster) error {
			row.Health, row.HealthSince = pmpb.ClusterHealth_CLUSTER_HEALTH_FAILOVER_ELIGIBLE, timestamppb.New(s.now)
			row.LastSeen = timestamppb.New(s.now.Add(-5 * time.Minute))
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// settle lets every unit in a cluster that is healthy run what it is to run, and confirms
// what is to go.
func (s *movers) settle() {
	s.t.Helper()
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		if s.snap().Cluster(u.GetEnv()).GetHealth() != pmpb.ClusterHealth_CLUSTER_HEALTH_HEALTHY {
			continue
		}
		about := func() *pmpb.UnitUpdate {
			return &pmpb.UnitUpdate{Id: u.GetId(), Fence: u.GetFence(), Epoch: u.GetEpoch()}
		}
		if u.GetTombstone() {
			gone := about()
			gone.Update = &pmpb.UnitUpdate_Gone{Gone: &pmpb.Gone{}}
			s.told(gone)
			continue
		}
		acked, runs := about(), about()
		acked.Update = &pmpb.UnitUpdate_Acked{Acked: &pmpb.Ack{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()}}
		runs.Update = &pmpb.UnitUpdate_Runtime{Runtime: &oaaspb.ClassRuntimeSummary{
			Id: u.GetId(), DeploymentUnitId: u.GetId(), Status: &oaaspb.ClassRuntimeStatus{Condition: oaaspb.DeploymentCondition_RUNNING},
			Delivery: &oaaspb.Delivery{Epoch: u.GetEpoch(), Fence: u.GetFence(), ContentHash: u.GetContentHash()},
		}}
		s.told(acked, runs)
	}
}

func (s *movers) told(updates ...*pmpb.UnitUpdate) {
	s.t.Helper()
	if err := s.UpdateUnits(context.Background(), 0, updates); err != nil {
		s.t.Fatal(err)
	}
}

// drive does what a leader does at one moment.
func (s *movers) drive() *registry.MoveProgress {
	s.t.Helper()
	ctx, out := context.Background(), &registry.MoveProgress{}
	for _, one := range s.Relocations(s.snap()) {
		p, err := s.Relocate(ctx, s.term, one.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		out = p
	}
	for _, dep := range s.snap().Deployments() {
		if !registry.Moving(dep.Move) {
			continue
		}
		p, err := s.AdvanceMove(ctx, s.term, dep.Doc.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		out = p
	}
	return out
}

// live names the environments that have a unit which is not a tombstone, with a mark on those
// that are leaving.
func (s *movers) live() string {
	var out []string
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		name := u.GetEnv()
		if u.GetTombstone() {
			continue
		}
		if s.dep().Leaves(name) {
			name += "-"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (s *movers) expect(when, live, held string) {
	s.t.Helper()
	if got := s.live(); got != live || s.dep().Move.GetHeld().GetCode() != held {
		s.t.Fatalf("%s: it runs in %q, held: %v; want %q, %q", when, got, s.dep().Move.GetHeld(), live, held)
	}
}

// finish lets time pass and everything arrive until the deployment does not move any more.
func (s *movers) finish() {
	s.t.Helper()
	for range 20 {
		s.settle()
		s.drive()
		if len(s.dep().Move.GetLeaving()) == 0 {
			s.settle()
			return
		}
		s.now = s.now.Add(time.Second)
	}
	s.t.Fatalf("it does not end: %s, %v", s.live(), s.dep().Move)
}

func TestDrain(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3")
	s.policy("e3", &pmpb.ClusterPolicy{Cordoned: true})
	s.wish(0.9999, "")
	s.settle()
	s.expect("deployed", "e1 e2", "")
	s.policy("e2", &pmpb.ClusterPolicy{Draining: true, DrainReason: "disks"})
	fence := s.unit("e2").GetFence()

	s.drive()
	s.expect("nowhere to go", "e1 e2", "NoPlace")
	modified := s.dep().ModifyIndex
	s.now = s.now.Add(time.Hour)
	s.drive()
	if s.dep().ModifyIndex != modified {
		t.Error("the same was written again")
	}
	if d := registry.DrainOf(s.snap(), s.snap().Cluster("e2")); d.Deployments != 1 || d.Moved != 0 || len(d.Held) != 1 || d.Held[0].Code != "NoPlace" || d.Reason != "disks" {
		t.Errorf("the drain is %+v", d)
	}

	s.policy("e3", &pmpb.ClusterPolicy{})
	s.drive()
	s.expect("it has begun", "e1 e2- e3", "")
	if s.unit("e2").GetFence() != fence {
		t.Error("what leaves was changed")
	}
	if got := s.dep().Doc.TargetEnvs; !slices.Contains(got, "e3") || slices.Contains(got, "e2") {
		t.Errorf("it is planned in %v", got)
	}
	s.now = s.now.Add(time.Minute)
	s.drive()
	s.expect("the other one does not run", "e1 e2- e3", "ReplacementNotAvailable")
	s.settle()
	if p := s.drive(); !p.Replaced || p.Took != time.Minute {
		t.Errorf("progress is %+v", p)
	}
	s.expect("it has", "e1 e3", "")
	if d := registry.DrainOf(s.snap(), s.snap().Cluster("e2")); !d.Done() || d.Moved != 1 || len(d.Held) != 0 {
		t.Errorf("the drain is %+v", d)
	}
	s.policy("e2", &pmpb.ClusterPolicy{})
	s.drive()
	s.expect("drained no more", "e1 e3", "")
	if got := s.Relocations(s.snap()); len(got) != 0 {
		t.Errorf("there is more to do: %v", got)
	}
}

// A drain that ends before it could begin leaves nothing behind.
func TestDrainIsTakenBack(t *testing.T) {
	s := newMovers(t, "e1", "e2")
	s.wish(0.9999, "")
	s.settle()
	s.policy("e2", &pmpb.ClusterPolicy{Draining: true})
	s.drive()
	s.expect("nowhere to go", "e1 e2", "NoPlace")
	s.policy("e2", &pmpb.ClusterPolicy{})
	s.drive()
	s.expect("drained no more", "e1 e2", "")
	if s.dep().Move != nil {
		t.Errorf("its move is %v", s.dep().Move)
	}
}

func TestDrainWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		more, held string
	}{
		"for its window":          {`,"placement":{"windows":[{"days":["sun"],"start":"01:00","duration":"1h","zone":"UTC"}]}`, "OutsideWindow"},
		"for its user":            {`,"target_envs":["e1","e2"]`, "EnvironmentNamed"},
		"for another environment": {`,"placement":{"deny":["e3","e4"]}`, "NoPlace"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMovers(t, "e1", "e2", "e3", "e4")
			for _, env := range []string{"e3", "e4"} {
				s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
			}
			s.wish(0.9999, tt.more)
			s.settle()
			for _, env := range []string{"e3", "e4"} {
				s.policy(env, &pmpb.ClusterPolicy{})
			}
			s.policy("e1", &pmpb.ClusterPolicy{Draining: true})
			s.drive()
			s.expect(name, "e1 e2", tt.held)
		})
	}
}

// As many at a time as the placement permits.
func TestDrainMovesOneAtATime(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3", "e4")
	for _, env := range []string{"e3", "e4"} {
		s.policy(env, &pmpb.ClusterPolicy{Cordoned: true})
	}
	s.wish(0.9999, `,"placement":{"disruption":{"max_moves":1}}`)
	s.settle()
	for _, env := range []string{"e3", "e4"} {
		s.policy(env, &pmpb.ClusterPolicy{})
	}
	for _, env := range []string{"e1", "e2"} {
		s.policy(env, &pmpb.ClusterPolicy{Draining: true})
	}
	s.drive()
	if n := len(s.dep().Move.GetLeaving()); n != 1 {
		t.Fatalf("it leaves %d: %s", n, s.live())
	}
	s.finish()
	s.finish()
	s.drive()
	s.finish()
	s.expect("both are drained", "e3 e4", "")
}

// votes names the environments that hold shards, as every unit that stays is told.
func (s *movers) votes() string {
	s.t.Helper()
	said := map[string]bool{}
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		if u.GetTombstone() || s.dep().Leaves(u.GetEnv()) {
			continue
		}
		unit, err := fsm.Desired(u)
		if err != nil {
			s.t.Fatal(err)
		}
		grid, holders := unit.GetOdgmConfig(), map[uint64]bool{}
		for _, a := range grid.GetCollectionAssignments()["shop.Cart"].GetAssignments() {
			for _, id := range a.GetReplica() {
				holders[id] = true
			}
		}
		var names []string
		for env, ids := range grid.GetEnvNodeIds() {
			if holders[ids.GetIds()[0]] {
				names = append(names, env)
			} else {
				names = append(names, env+"?")
			}
		}
		slices.Sort(names)
		if int(grid.GetReplicaCount()) != len(holders) || grid.GetOdgmNodeId() == 0 {
			s.t.Errorf("%s has %d replicas of %d holders", u.GetEnv(), grid.GetReplicaCount(), len(holders))
		}
		said[strings.Join(names, " ")] = true
	}
	if len(said) != 1 {
		s.t.Errorf("units are told different things: %v", said)
	}
	return strings.Join(slices.Sorted(maps.Keys(said)), "|")
}

// shards gives where the shards of a partition are, as the units that stay are told.
func (s *movers) shards() map[uint64]string {
	s.t.Helper()
	out := map[uint64]string{}
	for _, u := range s.snap().UnitsByDeployment(s.dep().UID) {
		if u.GetTombstone() || s.dep().Leaves(u.GetEnv()) {
			continue
		}
		unit, err := fsm.Desired(u)
		if err != nil {
			s.t.Fatal(err)
		}
		grid := unit.GetOdgmConfig()
		for p, a := range grid.GetCollectionAssignments()["shop.Cart"].GetAssignments() {
			if n := int(grid.GetReplicaCount()); len(a.GetReplica()) != n || len(a.GetShardIds()) != n || !slices.Contains(a.GetShardIds(), a.GetPrimary()) {
				s.t.Errorf("%d replicas are wanted of partition %d: %v", n, p, a)
			}
			for i, id := range a.GetShardIds() {
				out[id] = fmt.Sprintf("%d of partition %d", a.GetReplica()[i], p)
			}
		}
	}
	return out
}

// stays reports how many shards of each partition have another number, node or partition than
// before.
func stays(before, after map[uint64]string) (kept, lost int, moved []uint64) {
	for id, at := range before {
		switch now, there := after[id]; {
		case !there:
			lost++
		case now != at:
			moved = append(moved, id)
		default:
			kept++
		}
	}
	return kept, lost, moved
}

// Votes go one at a time: one that joins has its own before another loses it, unless that one
// is lost. A vote is taken before its holder goes, so that it can still agree to that.
func TestQuorumsMove(t *testing.T) {
	for _, tt := range []struct {
		name string
		away func(*movers)
		want []string
	}{
		{"drain", func(s *movers) { s.policy("e3", &pmpb.ClusterPolicy{Draining: true}) },
			[]string{"e1 e2 e3 e4?", "e1 e2 e3 e4", "e1 e2 e3? e4", "e1 e2 e4"}},
		{"failover", func(s *movers) { s.lose("e3") },
			[]string{"e1 e2 e3 e4?", "e1 e2 e3? e4?", "e1 e2 e3? e4", "e1 e2 e4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMovers(t, "e1", "e2", "e3", "e4")
			s.policy("e4", &pmpb.ClusterPolicy{Cordoned: true})
			s.wish(0.999, quorum+automatic)
			s.settle()
			s.expect("deployed", "e1 e2 e3", "")
			s.policy("e4", &pmpb.ClusterPolicy{})
			tt.away(s)
			var got []string
			before, ever := s.shards(), map[uint64]string{}
			for range 2 * len(tt.want) {
				s.drive()
				if now := s.votes(); len(got) == 0 || got[len(got)-1] != now {
					got = append(got, now)
				}
				after := s.shards()
				if kept, lost, moved := stays(before, after); len(moved) > 0 || lost > 3 || kept < 6 {
					t.Fatalf("%s: of the shards %v stay %d, and %v are elsewhere: %v", s.votes(), before, kept, moved, after)
				}
				for id, at := range after {
					if was, known := ever[id]; known && was != at {
						t.Fatalf("shard %d was %s and is %s", id, was, at)
					}
					ever[id] = at
				}
				before = after
				s.drive() // what has not arrived changes nothing
				s.settle()
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("votes were %q, want %q", got, tt.want)
			}
			s.expect("it has moved", "e1 e2 e4", "")
			fence := s.unit("e1").GetFence()
			if _, _, err := s.Replan(context.Background(), registry.RequestInfo{}, "shop.Cart", false); err != nil || s.unit("e1").GetFence() != fence {
				t.Errorf("its last layout is not that of its plan: %v", err)
			}
		})
	}
}

// A user who takes environments away has them gone at once where the rest is enough.
func TestUpdatesLeaveEnvironments(t *testing.T) {
	s := newMovers(t, "e1", "e2", "e3")
	s.deploy("cart:1", "", "e1", "e2", "e3")
	s.settle()
	s.deploy("cart:1", "", "e1", "e2")
	s.expect("the rest is available", "e1 e2", "")

	s.deploy("cart:1", "", "e1", "e3")
	s.expect("another one comes", "e1 e2- e3", "")
	s.deploy("cart:2", "", "e1", "e3")
	s.expect("and another change", "e1 e2- e3", "")
	if s.image("e2") != "cart:1" || s.image("e1") != "cart:2" || s.dep().RevisionNumber() != 2 {
		t.Errorf("images are %s %s, revision %d", s.image("e1"), s.image("e2"), s.dep().RevisionNumber())
	}
	s.deploy("cart:2", "", "e1", "e3")
	if s.dep().RevisionNumber() != 2 {
		t.Errorf("the same again is revision %d", s.dep().RevisionNumber())
	}
	s.finish()
	s.expect("it has come", "e1 e3", "")

	s.health("e1", pmpb.ClusterHealth_CLUSTER_HEALTH_UNREACHABLE)
	s.deploy("cart:2", "", "e1")
	s.now = s.now.Add(time.Minute)
	s.drive()
	s.expect("the rest is not available", "e1 e3-", "ReplacementNotAvailable")
	s.deploy("cart:2", "", "e1", "e3")
	s.expect("it is wanted again", "e1 e3", "")
	if _, _, err := s.DeleteDeployment(context.Background(), registry.RequestInfo{}, "shop.Cart"); err != nil {
		t.Fatal(err)
	}
}
