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

// sighting is what the servers were like when they were asked.
type sighting struct {
	state *autopilot.State
	// servers are their conditions, by id. Who votes is not in them.
	servers map[string]ServerState
}

// describe puts the library's state into words.
func (p *pilot) describe(s *autopilot.State) *sighting {
	config, last := p.n.AutopilotConfig(), p.n.raft.LastIndex()
	out := &sighting{state: s, servers: map[string]ServerState{}}
	for _, server := range p.n.Servers() {
		if state := s.Servers[raft.ServerID(server.ID)]; state != nil {
			out.servers[server.ID] = p.serverState(server, state, config, last)
		}
	}
	return out
}

// picture puts what was seen together with the configuration that there is now: a
// vote that was just given or taken away is not told as one that is to come or go.
func (p *pilot) picture(seen *sighting) *AutopilotState {
	e := p.electorate(seen.state)
	out := &AutopilotState{Healthy: true, DesiredVoters: e.hoped(), LeaderID: string(seen.state.Leader)}
	spares, healthy := 0, 0
	for _, server := range p.n.Servers() {
		state, known := seen.servers[server.ID]
		i := slices.IndexFunc(e.servers, func(c candidate) bool { return c.id == server.ID })
		if !known || i < 0 {
			continue // it came after they were asked
		}
		c := e.servers[i]
		state.Server, state.Reasons = server, append(slices.Clone(state.Reasons), e.explain(c))
		out.Servers = append(out.Servers, state)
		out.Healthy = out.Healthy && state.Healthy
		switch {
		case c.voter:
			out.Voters++
			if state.Healthy {
				healthy++
			}
		case e.proven(c):
			spares++
		}
	}
	slices.SortFunc(out.Servers, func(a, b ServerState) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	out.FailureTolerance = max(quorumOf(out.Voters, healthy).Tolerance, 0)
	out.OptimisticFailureTolerance = out.FailureTolerance + spares
	out.Problems = problems(out, p.n.FeatureLevels())
	return out
}

func (p *pilot) serverState(server Server, state *autopilot.ServerState, config *pmpb.Autopilot, last uint64) ServerState {
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
	return out
}

// ailment says why a server is not healthy, in the order in which it is judged.
func (p *pilot) ailment(s *ServerState, answer *pmpb.IdentifyResponse, config *pmpb.Autopilot) string {
	threshold := config.GetLastContactThreshold().AsDuration()
	switch {
	case answer == nil && time.Since(p.n.layer.contacts.last(raft.ServerID(s.ID))) < threshold:
		return "its Raft port answers and its gRPC port " + s.GRPCAddress + " does not; it does not count as dead"
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
		out = append(out, fmt.Sprintf("voters: %d, wanted: %d", s.Voters, s.DesiredVoters))
	case s.Voters%2 == 0:
		out = append(out, fmt.Sprintf("%d voters tolerate no more failures than %d would", s.Voters, s.Voters-1))
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
