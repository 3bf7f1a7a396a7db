package raftstore

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"oaas.io/control-plane/proto/pmpb"
)

// AutopilotState is how the leader sees the servers.
type AutopilotState struct {
	// Healthy is true when every server is.
	Healthy bool
	// FailureTolerance is how many healthy voters may fail at once before there is
	// no quorum. Optimistic counts the healthy spares that would take their place
	// one after the other.
	FailureTolerance, OptimisticFailureTolerance int
	Voters, DesiredVoters                        int
	LeaderID                                     string
	Servers                                      []ServerState
	// Problems say what an operator should know, most important first.
	Problems []string
}

// ServerState is one server as the leader sees it.
type ServerState struct {
	Server
	Healthy bool
	// StableSince is when Healthy last changed.
	StableSince time.Time
	// LastContact is the age of the leader's last message, as the server said it.
	LastContact         time.Duration
	LastTerm, LastIndex uint64
	// Lag is how many entries it is behind the leader.
	Lag uint64
	// Reasons say why it is not healthy and why it has a vote or has none.
	Reasons             []string
	DiskFree, DiskTotal uint64
	DiskWriteP99        time.Duration
	// ClockOffset is how far its clock is ahead of the leader's, half an exchange
	// more or less.
	ClockOffset time.Duration
}

// describe puts the library's state into words.
func (p *pilot) describe(s *autopilot.State) *AutopilotState {
	config := p.n.AutopilotConfig()
	e := p.electorate(s)
	out := &AutopilotState{
		Healthy: s.Healthy, FailureTolerance: s.FailureTolerance, Voters: len(s.Voters), DesiredVoters: e.wanted(), LeaderID: string(s.Leader),
	}
	if e.desired > 0 {
		out.DesiredVoters = e.desired
	}
	last := p.n.raft.LastIndex()
	spares := 0
	for _, server := range p.n.Servers() {
		state := s.Servers[raft.ServerID(server.ID)]
		i := slices.IndexFunc(e.servers, func(c candidate) bool { return c.id == server.ID })
		if state == nil || i < 0 {
			continue
		}
		c := e.servers[i]
		if !c.voter && e.proven(c) {
			spares++
		}
		out.Servers = append(out.Servers, p.serverState(server, state, config, last, e.explain(c)))
	}
	slices.SortFunc(out.Servers, func(a, b ServerState) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	out.OptimisticFailureTolerance = out.FailureTolerance + spares
	out.Problems = problems(out, p.n.FeatureLevels())
	return out
}

func (p *pilot) serverState(server Server, state *autopilot.ServerState, config *pmpb.Autopilot, last uint64, vote string) ServerState {
	p.mu.Lock()
	answer := p.answers[raft.ServerID(server.ID)]
	p.mu.Unlock()
	out := ServerState{
		Server: server, Healthy: state.Health.Healthy, StableSince: state.Health.StableSince,
		LastContact: state.Stats.LastContact, LastTerm: state.Stats.LastTerm, LastIndex: state.Stats.LastIndex,
		DiskFree: answer.GetDiskFree(), DiskTotal: answer.GetDiskTotal(), DiskWriteP99: answer.GetDiskWriteP99().AsDuration(),
	}
	if last > out.LastIndex {
		out.Lag = last - out.LastIndex
	}
	if at := answer.GetTime(); at != nil && !server.Leader {
		p.mu.Lock()
		out.ClockOffset = at.AsTime().Sub(p.heard[raft.ServerID(server.ID)]).Round(time.Millisecond)
		p.mu.Unlock()
	}
	if !out.Healthy {
		out.Reasons = append(out.Reasons, p.ailment(&out, answer, config))
	}
	out.Reasons = append(out.Reasons, vote)
	return out
}

// ailment says why a server is not healthy, in the order in which it is judged.
func (p *pilot) ailment(s *ServerState, answer *pmpb.IdentifyResponse, config *pmpb.Autopilot) string {
	threshold := config.GetLastContactThreshold().AsDuration()
	switch {
	case answer == nil:
		return fmt.Sprintf("it has not answered for %s; after %s it counts as dead",
			p.silence(raft.ServerID(s.ID)).Round(time.Second), config.GetDeadServerGrace().AsDuration())
	case answer.GetLeaderId() != p.n.serverID && answer.GetLeaderId() == "":
		return "it answers, but knows no leader: the leader's messages do not reach its Raft port " + s.RaftAddress
	case answer.GetLeaderId() != p.n.serverID:
		return "it answers, but follows server " + answer.GetLeaderId()
	case s.LastContact > threshold:
		return fmt.Sprintf("it last heard from the leader %s ago, allowed are %s", s.LastContact.Round(time.Millisecond), threshold)
	case s.Lag > config.GetMaxTrailingLogs():
		return fmt.Sprintf("its log is %d entries behind, allowed are %d", s.Lag, config.GetMaxTrailingLogs())
	default:
		return "its log has not reached the leader's term yet"
	}
}

// problems are what an operator should act on, the most important first.
func problems(s *AutopilotState, levels FeatureLevels) []string {
	var out []string
	if s.FailureTolerance == 0 {
		out = append(out, fmt.Sprintf("failure tolerance is 0: with %d voters, the loss of one more stops all writes", s.Voters))
	}
	for _, server := range s.Servers {
		if !server.Healthy {
			out = append(out, fmt.Sprintf("server %s is not healthy: %s", nameOf(server.Server), server.Reasons[0]))
		}
	}
	switch {
	case s.Voters != s.DesiredVoters:
		out = append(out, fmt.Sprintf("there are %d voters, %d are wanted", s.Voters, s.DesiredVoters))
	case s.Voters%2 == 0:
		out = append(out, fmt.Sprintf("%d voters tolerate no more failures than %d", s.Voters, s.Voters-1))
	}
	if len(levels.Behind) > 0 {
		out = append(out, fmt.Sprintf("feature level %d waits for %d servers that do not know it", levels.Own, len(levels.Behind)))
	}
	return out
}

func nameOf(s Server) string {
	if s.Name == "" {
		return s.ID
	}
	return s.Name + " (" + s.ID + ")"
}

// forget empties the metrics of what autopilot sees: only a leader knows that. NaN
// is passed over by the minimum or maximum over all nodes.
func (m *metrics) forget() {
	m.tolerance.Set(math.NaN())
	m.desired.Set(math.NaN())
	m.healthy.Reset()
}

// observe keeps the metrics of what autopilot sees.
func (m *metrics) observe(s *AutopilotState) {
	m.tolerance.Set(float64(s.FailureTolerance))
	m.desired.Set(float64(s.DesiredVoters))
	m.healthy.Reset()
	for _, server := range s.Servers {
		value := 0.0
		if server.Healthy {
			value = 1
		}
		m.healthy.WithLabelValues(server.ID).Set(value)
	}
}
