package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// NodeMembership is the servers of the cluster as a node of package raftstore
// looks after them.
type NodeMembership struct{ Node *raftstore.Node }

var _ Membership = NodeMembership{}

// Autopilot gives the leader's view.
func (n NodeMembership) Autopilot() (*AutopilotState, error) {
	s, err := n.Node.Autopilot()
	if err != nil {
		return nil, err
	}
	out := &AutopilotState{
		Healthy: s.Healthy, FailureTolerance: s.FailureTolerance, OptimisticFailureTolerance: s.OptimisticFailureTolerance,
		Voters: s.Voters, DesiredVoters: s.DesiredVoters, LeaderID: s.LeaderID,
		Problems: append([]string{}, s.Problems...), Servers: []AutopilotServer{},
	}
	for i := range s.Servers {
		out.Servers = append(out.Servers, tellServer(&s.Servers[i]))
	}
	return out, nil
}

func tellServer(s *raftstore.ServerState) AutopilotServer {
	out := AutopilotServer{
		ServerID: s.ID, Name: s.Name, Zone: s.Zone, Role: roleOf(s.Server),
		MemberHealth: MemberHealth{
			Healthy: s.Healthy, LastContact: known(s.LastContact), LastIndex: s.LastIndex, LastTerm: s.LastTerm, Lag: s.Lag,
			DiskFree: s.DiskFree, DiskTotal: s.DiskTotal, DiskWriteP99: Duration(s.DiskWriteP99), ClockOffset: Duration(s.ClockOffset),
			Reasons: append([]string{}, s.Reasons...),
		},
	}
	if !s.StableSince.IsZero() {
		out.StableSince = &s.StableSince
	}
	return out
}

// AutopilotConfig gives the settings with the defaults filled in.
func (n NodeMembership) AutopilotConfig() AutopilotConfig {
	return tellAutopilotConfig(n.Node.AutopilotConfig())
}

func tellAutopilotConfig(c *pmpb.Autopilot) AutopilotConfig {
	span := func(d *durationpb.Duration) Duration { return Duration(d.AsDuration()) }
	return AutopilotConfig{
		CleanupDeadServers: c.GetCleanupDeadServers(), DeadServerGrace: span(c.GetDeadServerGrace()), LastContactThreshold: span(c.GetLastContactThreshold()),
		MaxTrailingLogs: c.GetMaxTrailingLogs(), ServerStabilization: span(c.GetServerStabilization()), MinQuorum: c.GetMinQuorum(),
		DesiredVoters: c.GetDesiredVoters(), SpreadZones: c.GetSpreadZones(), NonVoters: append([]string{}, c.GetNonVoters()...), ModifyIndex: c.GetModifyIndex(),
	}
}

// SetAutopilotConfig replaces the settings.
func (n NodeMembership) SetAutopilotConfig(ctx context.Context, c AutopilotConfig) error {
	span := func(d Duration) *durationpb.Duration {
		if d == 0 {
			return nil // the default
		}
		return durationpb.New(time.Duration(d))
	}
	return n.Node.SetAutopilotConfig(ctx, &pmpb.Autopilot{
		CleanupDeadServers: c.CleanupDeadServers, DeadServerGrace: span(c.DeadServerGrace), LastContactThreshold: span(c.LastContactThreshold),
		MaxTrailingLogs: c.MaxTrailingLogs, ServerStabilization: span(c.ServerStabilization), MinQuorum: c.MinQuorum,
		DesiredVoters: c.DesiredVoters, SpreadZones: c.SpreadZones, NonVoters: c.NonVoters, ModifyIndex: c.ModifyIndex,
	})
}

// RemoveServer takes a server out. A dry run that would be refused says so in its
// answer.
func (n NodeMembership) RemoveServer(ctx context.Context, id string, dryRun, force bool) (*Removal, error) {
	done, err := n.Node.RemoveServer(ctx, id, raftstore.RemoveOptions{DryRun: dryRun, Force: force})
	var refused *raftstore.RemovalRefusedError
	switch {
	case errors.As(err, &refused) && dryRun:
		out := tellRemoval(refused.Removal)
		out.Refused = append(out.Refused, refused.Reasons...)
		out.Override = overrideOf(refused)
		out.Warnings = slices.DeleteFunc(out.Warnings, func(text string) bool { return slices.Contains(out.Refused, text) })
		return out, nil
	case errors.As(err, &refused):
		p := fail(registry.FailedPrecondition, "The server is not removed: %s", strings.Join(refused.Reasons, "; "))
		p.override = overrideOf(refused)
		for _, reason := range refused.Reasons {
			p.problems = append(p.problems, model.Problem{Message: reason})
		}
		return nil, p
	case err != nil:
		return nil, err
	}
	out := tellRemoval(done)
	out.Removed = !dryRun
	return out, nil
}

// overrideOf names the parameter that removes a server in spite of a refusal, if
// there is one.
func overrideOf(refused *raftstore.RemovalRefusedError) string {
	if refused.Forcible {
		return paramForce
	}
	return ""
}

func tellRemoval(r *raftstore.Removal) *Removal {
	return &Removal{
		ServerID: r.ID, Name: r.Name, DryRun: r.DryRun, VotersBefore: r.Before.Voters, VotersAfter: r.After.Voters, QuorumAfter: r.After.Needed, HealthyAfter: r.After.Healthy,
		ToleranceBefore: r.Before.Tolerance, ToleranceAfter: r.After.Tolerance, Refused: []string{}, Warnings: append([]string{}, r.Warnings...),
	}
}

// SetVote pins a server to have no vote, or takes that back.
func (n NodeMembership) SetVote(ctx context.Context, id string, allowed bool) error {
	return n.Node.SetVote(ctx, id, allowed)
}

// TransferTo hands leadership over.
func (n NodeMembership) TransferTo(ctx context.Context, id string) (*Transfer, error) {
	t, err := n.Node.TransferTo(ctx, id)
	if errors.Is(err, raftstore.ErrNoVote) {
		name := cmp.Or(n.Node.State().Snapshot().Member(id).GetName(), id)
		return nil, &problem{code: registry.FailedPrecondition, detail: "Node " + name + " has no vote and cannot lead", cause: err}
	}
	if err != nil {
		if p := operatorProblem(err); codeOf(p) != registry.Internal {
			return nil, p
		}
		return nil, &problem{code: registry.FailedPrecondition, detail: err.Error(), cause: err}
	}
	return &Transfer{From: t.From, To: t.To, Took: t.Took.Milliseconds()}, nil
}

// RaiseFeatureLevel lets commands up to that level be written.
func (n NodeMembership) RaiseFeatureLevel(ctx context.Context, level uint32) error {
	res, err := n.Node.Apply(ctx, &pmpb.Command{
		Note: raftstore.OperatorNote(ctx, "feature.raise", "", fmt.Sprintf("level %d", level)),
		Op:   &pmpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &pmpb.RaiseFeatureLevel{Level: level}},
	})
	return errors.Join(err, res.Err)
}
