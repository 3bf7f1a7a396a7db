package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPictureFollowsTheConfiguration: whoever has seen a vote go is told so by
// autopilot as well, and not that it is still to go.
func TestPictureFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader := c.leader()
	pinned := c.others(leader)[0]
	eventually(t, "the picture is complete", func() error {
		state, err := leader.Autopilot()
		if err != nil || len(state.Servers) != 3 || !state.Healthy {
			return fmt.Errorf("%+v, %w", state, err)
		}
		return nil
	})
	for _, vote := range []bool{false, true, false} {
		eventually(t, "the wish is stored", func() error { return leader.SetVote(within(t, patience), pinned.ServerID(), vote) })
		eventually(t, "the configuration has it", func() error {
			if i := slices.IndexFunc(leader.Servers(), func(s Server) bool { return s.ID == pinned.ServerID() }); leader.Servers()[i].Voter != vote {
				return errors.New("not yet")
			}
			return nil
		})
		state, err := leader.Autopilot()
		if err != nil {
			t.Fatal(err)
		}
		want, reason := 2, "it has no vote: an operator does not want it to have one"
		if vote {
			want, reason = 3, "it has a vote"
		}
		i := slices.IndexFunc(state.Servers, func(s ServerState) bool { return s.ID == pinned.ServerID() })
		if s := state.Servers[i]; s.Voter != vote || !slices.Contains(s.Reasons, reason) {
			t.Errorf("vote %v: %+v", vote, s)
		}
		// Of two voters none is too many: nobody takes a vote from them.
		if state.Voters != want || state.DesiredVoters != want || strings.Contains(strings.Join(state.Problems, "; "), "wanted") {
			t.Errorf("vote %v: %d voters of %d, %q", vote, state.Voters, state.DesiredVoters, state.Problems)
		}
		// How healthy they are may change on a busy machine.
		eventually(t, "the tolerance", func() error {
			state, err := leader.Autopilot()
			if tolerance := want - want/2 - 1; err != nil || state.FailureTolerance != tolerance {
				return fmt.Errorf("vote %v: %+v, %w, want %d", vote, state, err, tolerance)
			}
			return nil
		})
	}
}

// TestHopedVoters: an operator is told how many voters there are to be once every
// server has proved itself.
func TestHopedVoters(t *testing.T) {
	for name, tt := range map[string]struct {
		desired int
		servers []string
		want    int
	}{
		"one":                           {0, []string{"aVL"}, 1},
		"one and a newcomer":            {0, []string{"aVL", "bNy"}, 1},
		"one and two newcomers":         {0, []string{"aVL", "bNy", "cNy"}, 3},
		"three":                         {0, []string{"aVL", "bV", "cVx"}, 3},
		"a replacement has just joined": {0, []string{"aVL", "bV", "cNy"}, 3},
		"a spare that is not healthy":   {0, []string{"aVL", "bV", "cNx"}, 3},
		"a spare that is dead":          {0, []string{"aVL", "bV", "cNd"}, 2},
		"a voter that is dead":          {0, []string{"aVL", "bV", "cVd"}, 2},
		"one of three is to be pinned":  {0, []string{"aVL", "bV", "cVp"}, 2},
		"one of three is pinned":        {0, []string{"aVL", "bV", "cNp"}, 2},
		"two of three are pinned":       {0, []string{"aVL", "bNp", "cNp"}, 1},
		"four":                          {0, []string{"aVL", "bV", "cV", "aN"}, 3},
		"seven":                         {0, []string{"aVL", "bV", "cV", "aV", "bV", "cN", "aN"}, 5},
		"the operator wants five":       {5, []string{"aVL", "bV", "cV"}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			e := electorate{desired: tt.desired, stabilization: 10 * time.Second, level: 2, servers: people(tt.servers...)}
			if got := e.hoped(); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// TestLeadershipNeedsAVote: a server without a vote is refused, not denied.
func TestLeadershipNeedsAVote(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	spare := c.add("n4")
	spare.start()
	c.expectServers(c.nodes[:3], c.nodes[3:])
	var unknown *UnknownServerError
	if _, err := c.leader().TransferTo(within(t, patience), spare.ServerID()); !errors.Is(err, ErrNoVote) || errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
	if _, err := c.leader().TransferTo(within(t, patience), "nobody"); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
}
