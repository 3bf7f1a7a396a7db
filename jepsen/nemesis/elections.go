package nemesis

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/netlab"
)

// elections are the nemeses that need several things to happen in the right order, within a
// fraction of a second. Guards against faults of the library exist for these alone.
func elections() []Nemesis {
	return []Nemesis{
		&kind{
			name:  "spectators",
			about: "Two nodes lose their vote; leadership is handed over, and only these two can still reach the old leader, which does not learn of it.",
			parts: []Part{Members, Network}, available: both(five, needs(cluster.FaultCut, cluster.FaultDelay)), choose: spectating,
		},
		&kind{
			name:  "pause-candidate",
			about: "A node that is to take over stands still after it has asked for votes and before it has them, and goes on when another one leads.",
			parts: []Part{Members, Network, Nodes}, available: both(spare, needs(cluster.FaultDelay)), choose: pauseCandidate,
		},
	}
}

func five(t *Target) error {
	if len(t.Cluster.Nodes()) < 5 {
		return errors.New("needs five nodes: three that vote, and two that look on")
	}
	return nil
}

const (
	// replyDelay is how late the others' answers come: long enough to do something in
	// between, and shorter than any timeout.
	replyDelay = 500 * time.Millisecond
	// voteLimit is how long it may take until a server has lost its vote or may have it back.
	voteLimit = 15 * time.Second
	// successionLimit is how long a successor may take.
	successionLimit = 3 * time.Second
)

func spectating(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	others, err := t.byVote(ctx, random, leader.Name())
	if err != nil {
		return nil, err
	}
	spectators, voters := others[:2], others[2:]
	old := append([]string{leader.Name()}, spectators...)
	// The spectators must not hear of the new leader either.
	aside := cutting(t, nil, "", apart(spectators, voters))
	cut := cutting(t, nil, "", apart([]string{leader.Name()}, voters))
	late := shaping(t, nil, "", netlab.Shape{Delay: replyDelay}, oneWay(voters, leader.Name(), cluster.PortRaft))
	return &Fault{
		Nodes: old, Text: "handed over to " + voters[0] + ", seen by " + spectators[0] + " and " + spectators[1] + " only",
		Begin: func(ctx context.Context) error {
			if err := t.takeVotes(ctx, spectators...); err != nil {
				return err
			}
			if err := errors.Join(aside.Begin(ctx), late.Begin(ctx)); err != nil {
				return err
			}
			// The successor asks the old leader for its vote too. That request is still on its
			// way when the other one has made it the leader.
			t.handOver(ctx, leader.Name(), voters[0])
			if err := t.succeeded(ctx, voters[0]); err != nil {
				t.Log.Debug("transfer", "to", voters[0], "error", err)
			}
			return cut.Begin(ctx)
		},
		// Heals what late has done too, whose ways are among those of cut.
		End: func(ctx context.Context) error { return errors.Join(cut.End(ctx), aside.End(ctx), t.giveVotes(ctx)) },
	}, nil
}

// byVote are all nodes but one in random order, those without a vote first.
func (t *Target) byVote(ctx context.Context, random *rand.Rand, but string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	members, err := t.Cluster.Client(but).MembersWithHealth(ctx)
	if err != nil {
		return nil, err
	}
	votes := map[string]bool{}
	for _, m := range members {
		votes[m.Name] = m.Voter
	}
	others := shuffled(random, t.others(but))
	slices.SortStableFunc(others, func(a, b string) int {
		switch {
		case votes[a] == votes[b]:
			return 0
		case votes[a]:
			return 1
		default:
			return -1
		}
	})
	if !votes[others[2]] {
		return nil, errors.New("fewer than three nodes have a vote")
	}
	return others, nil
}

// succeeded waits until a node leads.
func (t *Target) succeeded(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, successionLimit)
	defer cancel()
	return system.Poll(ctx, node+" leads", func(ctx context.Context) (bool, error) {
		name, _, err := t.Cluster.Leader(ctx)
		return name == node, err
	})
}

func pauseCandidate(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	candidate, err := t.follower(ctx, random)
	if err != nil {
		return nil, err
	}
	late := shaping(t, nil, "", netlab.Shape{Delay: replyDelay}, oneWay(t.others(candidate.Name()), candidate.Name(), cluster.PortRaft))
	return &Fault{
		Nodes: []string{candidate.Name()}, Text: "paused while it stands for election",
		Begin: func(ctx context.Context) error {
			if err := late.Begin(ctx); err != nil {
				return err
			}
			t.handOver(ctx, leader.Name(), candidate.Name())
			if err := t.stands(ctx, candidate.Name()); err != nil {
				t.Log.Debug("transfer", "to", candidate.Name(), "error", err)
			}
			return candidate.Pause()
		},
		End: func(ctx context.Context) error {
			err := late.End(ctx)
			_ = candidate.Resume() // one that has ended meanwhile is started below
			return errors.Join(err, startAll(ctx, []*cluster.Node{candidate}))
		},
	}, nil
}

// stands waits until a node is a candidate.
func (t *Target) stands(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, successionLimit)
	defer cancel()
	return system.Poll(ctx, node+" is a candidate", func(ctx context.Context) (bool, error) {
		state, err := t.Cluster.Client(node).Node(ctx, "")
		return err == nil && state.Raft.State == "Candidate", err
	})
}

// oneWay are the ways from some to one, in that direction alone.
func oneWay(from []string, to string, ports ...int) (ways []way) {
	for _, f := range from {
		ways = append(ways, way{f, to, ports})
	}
	return ways
}

// handOver asks for a change of the leader and does not wait for it.
func (t *Target) handOver(ctx context.Context, from, to string) {
	ctx = context.WithoutCancel(ctx)
	t.asking.Go(func() {
		if err := transfer(ctx, t.Cluster.Client(from), to); err != nil {
			t.Log.Debug("transfer", "to", to, "error", err)
		}
	})
}

// takeVotes returns when these nodes have no vote any more.
func (t *Target) takeVotes(ctx context.Context, nodes ...string) error {
	for _, n := range nodes {
		t.voteless.Store(n, true)
	}
	err := t.await(ctx, "nodes are to have no vote", func(ctx context.Context, leader string) (bool, error) {
		for _, n := range nodes {
			if err := t.Cluster.Client(leader).SetVote(ctx, n, false); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return t.await(ctx, "nodes have no vote", func(ctx context.Context, leader string) (bool, error) {
		members, err := t.Cluster.Client(leader).MembersWithHealth(ctx)
		return err == nil && !slices.ContainsFunc(members, func(m client.Member) bool { return m.Voter && slices.Contains(nodes, m.Name) }), err
	})
}

// giveVotes lets all nodes vote again. They get their votes some seconds later.
func (t *Target) giveVotes(ctx context.Context) error {
	t.asking.Wait()
	var nodes []string
	t.voteless.Range(func(name, _ any) bool {
		nodes = append(nodes, name.(string))
		return true
	})
	if nodes == nil {
		return nil
	}
	return t.await(ctx, "nodes may vote again", func(ctx context.Context, leader string) (bool, error) {
		for _, n := range nodes {
			if err := t.Cluster.Client(leader).SetVote(ctx, n, true); err != nil {
				return false, err
			}
			t.voteless.Delete(n)
		}
		return true, nil
	})
}

// await tries something with the leader of the moment until it is done.
func (t *Target) await(ctx context.Context, what string, try func(ctx context.Context, leader string) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, voteLimit)
	defer cancel()
	return system.Poll(ctx, what, func(ctx context.Context) (bool, error) {
		leader, err := t.leader(ctx)
		if err != nil {
			return false, err
		}
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		return try(ctx, leader.Name())
	})
}
