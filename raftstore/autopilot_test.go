package raftstore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/durationpb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// configureAutopilot stores settings once the cluster takes them.
func (c *testCluster) configureAutopilot(settings *pmpb.Autopilot) {
	c.t.Helper()
	eventually(c.t, "the settings are stored", func() error {
		return c.leader().SetAutopilotConfig(within(c.t, patience), settings)
	})
}

// quickGrace removes a dead server soon.
func quickGrace() *pmpb.Autopilot {
	return &pmpb.Autopilot{CleanupDeadServers: true, SpreadZones: true, DeadServerGrace: durationpb.New(2 * testTiming.Heartbeat)}
}

func TestDeadServerIsReplacedBySpare(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	spare := c.add("n4")
	spare.start()
	c.expectServers(c.nodes[:3], c.nodes[3:])
	dead := c.others(c.leader())[0]
	dead.kill()
	// Ten minutes are not over: the others go on, and the server keeps its place.
	c.write("k", "v")
	eventually(t, "autopilot says what is wrong", func() error {
		state, err := c.leader().Autopilot()
		if err != nil {
			return err
		}
		if state.Healthy || len(state.Problems) == 0 || !strings.Contains(strings.Join(state.Problems, "; "), "has not answered") {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
	c.configureAutopilot(quickGrace())
	left := slices.DeleteFunc(slices.Clone(c.nodes), func(n *testNode) bool { return n == dead })
	c.expectVoters(left...)
	c.expectQuorum(spare)
}

// TestServerWithoutItsInternalPortIsNotDead: what a voter confirms by Raft counts,
// whoever reaches its other port.
func TestServerWithoutItsInternalPortIsNotDead(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	spare := c.add("n4")
	spare.start()
	c.expectServers(c.nodes[:3], c.nodes[3:])
	leader := c.leader()
	deaf := c.others(leader)[0]
	deaf.stopServing()
	c.configureAutopilot(quickGrace())
	since := time.Now()
	eventually(t, "the grace is over, and autopilot says which port does not answer", func() error {
		if n := testutil.ToFloat64(leader.m.removals); n > 0 {
			t.Fatal("the server was removed as a dead one")
		}
		state, err := leader.Autopilot()
		if err != nil {
			return err
		}
		if problems := strings.Join(state.Problems, "; "); !strings.Contains(problems, "its gRPC port "+deaf.grpcAddr+" does not") {
			return errors.New(problems)
		}
		if over := time.Since(since); over < 8*testTiming.Heartbeat {
			return fmt.Errorf("%s", over)
		}
		return nil
	})
	c.expectServers(c.nodes[:3], c.nodes[3:])
}

// TestNewServerOfAnOldLeaderIsNotDead: a leader may have led for longer than dead
// servers are given. Whoever joins then has not been silent for that long.
func TestNewServerOfAnOldLeaderIsNotDead(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader, began := c.leader(), time.Now()
	c.configureAutopilot(quickGrace())
	eventually(t, "the leader has led for longer than the grace", func() error {
		if led := time.Since(began); led < 3*testTiming.Heartbeat {
			return fmt.Errorf("for %s", led)
		}
		return nil
	})
	spare := c.add("n4")
	spare.start()
	eventually(t, "the new server is healthy", func() error {
		if n := testutil.ToFloat64(leader.m.removals); n > 0 {
			t.Fatal("the new server was removed as a dead one")
		}
		state, err := leader.Autopilot()
		if err != nil || len(state.Servers) != 4 || !state.Healthy {
			return fmt.Errorf("%+v, %w", state, err)
		}
		return nil
	})
}

func TestDeadServersAreNeverRemovedBelowTheMinimum(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	settings := quickGrace()
	settings.MinQuorum = 3
	c.configureAutopilot(settings)
	c.others(c.leader())[0].kill()
	eventually(t, "the server counts as dead", func() error {
		state, err := c.leader().Autopilot()
		if err != nil {
			return err
		}
		for _, s := range state.Servers {
			if !s.Healthy && strings.Contains(strings.Join(s.Reasons, "; "), "as soon as enough other voters") {
				return nil
			}
		}
		return fmt.Errorf("%+v", state.Servers)
	})
	c.write("k", "v")
	if servers := c.leader().Servers(); len(servers) != 3 {
		t.Errorf("the servers are %+v", servers)
	}
}

func TestVotesFollowTheZones(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	zones := map[string]string{"n1": "a", "n2": "a", "n3": "b", "n4": "c"}
	in := func(n *testNode) { n.configure = func(o *Options) { o.Name, o.Zone = n.name, zones[n.name] } }
	for _, n := range c.nodes {
		in(n)
	}
	c.start()
	spare := c.add("n4")
	in(spare)
	spare.start()
	eventually(t, "each zone has a vote", func() error {
		votes := map[string]int{}
		for _, s := range c.leader().Servers() {
			if s.Voter {
				votes[s.Zone]++
			}
		}
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1}, votes); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func TestLeaderThatMustNotVoteHandsOver(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	pinned := c.leader()
	eventually(t, "the settings are stored", func() error {
		return pinned.SetVote(within(t, patience), pinned.ServerID(), false)
	})
	c.expectServers(c.others(pinned), []*testNode{pinned})
	if c.leader() == pinned {
		t.Error("a server without a vote leads")
	}
	if err := c.leader().SetVote(within(t, patience), pinned.ServerID(), true); err != nil {
		t.Fatal(err)
	}
	c.expectVoters(c.nodes...)
	var unknown *UnknownServerError
	if err := c.leader().SetVote(within(t, patience), "nobody", false); !errors.As(err, &unknown) {
		t.Errorf("an unknown server gives %v", err)
	}
}

func TestAutopilotSettingsAreChecked(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	leader.expectLevel(fsm.Level)
	for field, settings := range map[string]*pmpb.Autopilot{
		"desired_voters":         {DesiredVoters: 4},
		"min_quorum":             {DesiredVoters: 3, MinQuorum: 4},
		"dead_server_grace":      {DeadServerGrace: durationpb.New(time.Millisecond)},
		"last_contact_threshold": {LastContactThreshold: durationpb.New(-time.Second)},
		"server_stabilization":   {ServerStabilization: &durationpb.Duration{Seconds: 1, Nanos: -1}},
		"non_voters":             {NonVoters: []string{"pm-0"}},
	} {
		var bad *ConfigError
		if err := leader.SetAutopilotConfig(within(t, patience), settings); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestJudgeRemoval(t *testing.T) {
	server := func(id string, voter, healthy bool) ServerState {
		return ServerState{Server: Server{ID: id, Voter: voter}, Healthy: healthy}
	}
	three := []ServerState{server("a", true, true), server("b", true, true), server("c", true, true)}
	oneDown := []ServerState{server("a", true, true), server("b", true, true), server("c", true, false)}
	twoDown := []ServerState{server("a", true, true), server("b", true, false), server("c", true, false), server("d", true, true)}
	tests := map[string]struct {
		servers  []ServerState
		id       string
		force    bool
		refused  bool
		forcible bool
		after    Quorum
		spares   int
	}{
		"one of three":                {three, "a", false, true, true, quorumOf(2, 2), 0},
		"one of three, by force":      {three, "a", true, false, false, quorumOf(2, 2), 0},
		"the dead one of three":       {oneDown, "c", false, false, false, quorumOf(2, 2), 0},
		"a living one beside a dead":  {oneDown, "a", true, true, false, quorumOf(2, 1), 0},
		"without a quorum":            {twoDown, "a", true, true, false, quorumOf(3, 1), 0},
		"a dead one without a quorum": {twoDown, "b", false, false, false, quorumOf(3, 2), 0},
		"the only voter":              {[]ServerState{server("a", true, true), server("b", false, true)}, "a", true, true, false, quorumOf(0, 0), 0},
		"a spare":                     {append(slices.Clone(three), server("d", false, false)), "d", false, false, false, quorumOf(3, 3), 0},
		"one of five":                 {append(slices.Clone(three), server("d", true, true), server("e", true, true)), "e", false, false, false, quorumOf(4, 4), 0},
		"one of three beside a spare": {append(slices.Clone(three), server("d", false, true)), "a", false, false, false, quorumOf(2, 2), 1},
		"no spare makes a quorum":     {append(slices.Clone(oneDown), server("d", false, true)), "a", true, true, false, quorumOf(2, 1), 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := judgeRemoval(&AutopilotState{Servers: tc.servers, OptimisticFailureTolerance: tc.spares}, tc.id, RemoveOptions{Force: tc.force})
			var refused *RemovalRefusedError
			if errors.As(err, &refused) != tc.refused || tc.refused && refused.Forcible != tc.forcible {
				t.Errorf("verdict %v", err)
			}
			if r.After != tc.after {
				t.Errorf("after: %+v, want %+v", r.After, tc.after)
			}
		})
	}
}

func TestRemoveServer(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader := c.leader()
	out := c.others(leader)[0]
	eventually(t, "all are healthy", func() error {
		state, err := leader.Autopilot()
		if err == nil && !state.Healthy {
			err = fmt.Errorf("%+v", state.Servers)
		}
		return err
	})
	var unknown *UnknownServerError
	if _, err := leader.RemoveServer(within(t, patience), "nobody", RemoveOptions{}); !errors.As(err, &unknown) {
		t.Errorf("an unknown server gives %v", err)
	}
	if _, err := out.RemoveServer(within(t, patience), out.ServerID(), RemoveOptions{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower says %v", err)
	}
	if r, err := leader.RemoveServer(within(t, patience), out.ServerID(), RemoveOptions{DryRun: true, Force: true}); err != nil || len(leader.Servers()) != 3 {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	if _, err := leader.RemoveServer(within(t, patience), out.ServerID(), RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	expectRemoved(t, out)
	c.write("k", "v")
}

// Removals that follow each other faster than autopilot looks are judged by what
// the earlier ones have left, not by a picture that still shows those servers.
func TestRemovalsInARowKeepTheTolerance(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 5)
	for _, n := range c.nodes {
		n.configure = func(o *Options) { o.Timing.Probe = time.Hour } // autopilot does not look again
	}
	c.start()
	leader := c.leader()
	eventually(t, "autopilot runs, so that it can be replaced", func() error {
		if leader.readyTerm() == nil || leader.readyTerm().pilot.Load() == nil {
			return errors.New("not yet")
		}
		return nil
	})
	seen := &sighting{state: &autopilot.State{Servers: map[raft.ServerID]*autopilot.ServerState{}}, servers: map[string]ServerState{}}
	for _, s := range leader.Servers() {
		seen.state.Servers[raft.ServerID(s.ID)] = &autopilot.ServerState{Health: autopilot.ServerHealth{Healthy: true}}
		seen.servers[s.ID] = ServerState{Healthy: true}
	}
	p := &pilot{n: leader.Node}
	p.seen.Store(seen)
	leader.readyTerm().pilot.Store(p)
	for i, n := range c.others(leader)[:3] {
		_, err := leader.RemoveServer(within(t, patience), n.ServerID(), RemoveOptions{})
		var refused *RemovalRefusedError
		if last := i == 2; errors.As(err, &refused) != last || last && !refused.Forcible || !last && err != nil {
			t.Fatalf("removal %d leaves %d servers, the verdict is %v", i+1, len(leader.Servers()), err)
		}
	}
	var unknown *UnknownServerError
	if _, err := leader.RemoveServer(within(t, patience), c.others(leader)[0].ServerID(), RemoveOptions{}); !errors.As(err, &unknown) {
		t.Errorf("a server that was removed already gives %v", err)
	}
}

// Only a leader knows what autopilot sees, and a former one forgets it.
func TestAutopilotMetrics(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectHealthy(3)
	leader := c.leader()
	if got := testutil.ToFloat64(leader.m.tolerance); got != 1 {
		t.Errorf("failure tolerance %v", got)
	}
	if got := testutil.ToFloat64(leader.m.desired); got != 3 {
		t.Errorf("voters desired %v", got)
	}
	if got := testutil.CollectAndCount(leader.m.healthy); got != 3 {
		t.Errorf("%d servers", got)
	}
	if _, err := c.others(leader)[0].Autopilot(); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower's view: %v", err)
	}
	if err := leader.TransferLeadership(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the former leader forgets", func() error {
		if v := testutil.ToFloat64(leader.m.tolerance); !math.IsNaN(v) || testutil.CollectAndCount(leader.m.healthy) != 0 {
			return fmt.Errorf("failure tolerance %v", v)
		}
		return nil
	})
}
