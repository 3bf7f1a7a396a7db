package raftstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// RemoveOptions say how a server is removed.
type RemoveOptions struct {
	// DryRun gives the verdict and changes nothing.
	DryRun bool
	// Force removes a server although that leaves less safety than there was. It
	// does not remove the last chance of a quorum.
	Force bool
}

// Removal is what a removal does, or would do.
type Removal struct {
	ID, Name string
	Voter    bool
	DryRun   bool
	// Before and After are the quorum with and without the server.
	Before, After Quorum
	// Warnings say what is given up.
	Warnings []string
}

// Quorum is what stands between a cluster and its end.
type Quorum struct {
	Voters, Healthy int
	// Needed is a majority of the voters.
	Needed int
	// Tolerance is how many healthy voters may fail. Below 0 there is no quorum.
	Tolerance int
}

func quorumOf(voters, healthy int) Quorum {
	needed := voters/2 + 1
	return Quorum{Voters: voters, Healthy: healthy, Needed: needed, Tolerance: healthy - needed}
}

// RemovalRefusedError says why a server stays.
type RemovalRefusedError struct {
	Removal *Removal
	Reasons []string
	// Forcible says that force would do it.
	Forcible bool
}

func (e *RemovalRefusedError) Error() string {
	return "raftstore: the server is not removed: " + strings.Join(e.Reasons, "; ")
}

// RemoveServer takes a server out of the cluster. It works on the leader only; a
// leader that is asked to remove itself hands leadership over and fails with
// ErrNotLeader, so that the same request succeeds at its successor. A dry run gives
// the same verdict as the removal. The program of a removed server ends by itself
// when it runs and can reach the others.
func (n *Node) RemoveServer(ctx context.Context, id string, o RemoveOptions) (*Removal, error) {
	verdict, err := n.verdict(id, o)
	if err != nil || o.DryRun {
		return verdict, err
	}
	if id == n.serverID {
		if _, err := n.TransferTo(ctx, ""); err != nil {
			return nil, fmt.Errorf("the leader has to hand leadership over before it is removed: %w", err)
		}
		return nil, ErrNotLeader
	}
	n.joins.Lock()
	defer n.joins.Unlock()
	// Another change may have come first while this one waited.
	if verdict, err = n.verdict(id, o); err != nil {
		return verdict, err
	}
	if err := n.changeConfig(ctx, func() raft.Future { return n.raft.RemoveServer(raft.ServerID(id), 0, n.timing.RPC) }); err != nil {
		return nil, fmt.Errorf("raftstore: removing server %s: %w", id, classify(err))
	}
	n.log.Warn("a server was removed by an operator", "server_id", id, "name", verdict.Name, "force", o.Force)
	n.m.removals.Inc()
	detail := verdict.Name
	if o.Force {
		detail += ", forced"
	}
	_ = n.Remark(ctx, "member.remove", id, detail) // it is done, noted or not
	return verdict, nil
}

// verdict judges a removal by the servers that there are now.
func (n *Node) verdict(id string, o RemoveOptions) (*Removal, error) {
	seen, err := n.Autopilot()
	if err != nil {
		return nil, err
	}
	return judgeRemoval(seen.among(n.Servers()), id, o)
}

// among is the picture with the servers of the present configuration, which may
// have changed since autopilot looked: of those that it has not seen, nothing good
// is known, and those that are gone carry nothing any more.
func (s *AutopilotState) among(servers []Server) *AutopilotState {
	out := *s
	out.Servers = make([]ServerState, 0, len(servers))
	standby := 0
	for _, server := range servers {
		state := ServerState{}
		if i := slices.IndexFunc(s.Servers, func(have ServerState) bool { return have.ID == server.ID }); i >= 0 {
			state = s.Servers[i]
		}
		state.Server = server
		if !server.Voter && state.Healthy {
			standby++
		}
		out.Servers = append(out.Servers, state)
	}
	out.OptimisticFailureTolerance = s.FailureTolerance + min(s.OptimisticFailureTolerance-s.FailureTolerance, standby)
	return &out
}

// judgeRemoval plays the removal through.
func judgeRemoval(s *AutopilotState, id string, o RemoveOptions) (*Removal, error) {
	r := &Removal{ID: id, DryRun: o.DryRun}
	var gone *ServerState
	voters, healthy := 0, 0
	for i, server := range s.Servers {
		if server.ID == id {
			gone = &s.Servers[i]
		}
		if server.Voter {
			voters++
			if server.Healthy {
				healthy++
			}
		}
	}
	if gone == nil {
		return nil, &UnknownServerError{ID: id}
	}
	r.Name, r.Voter, r.Before, r.After = gone.Name, gone.Voter, quorumOf(voters, healthy), quorumOf(voters, healthy)
	if gone.Voter {
		left := healthy
		if gone.Healthy {
			left--
		}
		r.After = quorumOf(voters-1, left)
	}
	refuse := func(forcible bool, reason string) error {
		return &RemovalRefusedError{Removal: r, Reasons: []string{reason}, Forcible: forcible}
	}
	switch {
	case r.After.Voters == 0:
		return r, refuse(false, "it is the only voter")
	case r.After.Tolerance < 0:
		return r, refuse(false, fmt.Sprintf("of the %d voters that were left only %d are healthy, %d are needed: nothing could be written any more",
			r.After.Voters, r.After.Healthy, r.After.Needed))
	case gone.Voter && s.OptimisticFailureTolerance > s.FailureTolerance:
		r.Warnings = append(r.Warnings, "its vote goes to a spare that stands by")
	case r.After.Tolerance < r.Before.Tolerance && r.After.Tolerance == 0:
		r.Warnings = append(r.Warnings, fmt.Sprintf("the loss of one more voter stops all writes: failure tolerance falls from %d to 0", r.Before.Tolerance))
		if !o.Force && r.After.Voters > 1 {
			return r, refuse(true, r.Warnings[0])
		}
	case r.After.Tolerance < r.Before.Tolerance:
		r.Warnings = append(r.Warnings, fmt.Sprintf("failure tolerance falls from %d to %d", r.Before.Tolerance, r.After.Tolerance))
	}
	return r, nil
}
