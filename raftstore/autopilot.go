package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"oaas.io/control-plane/proto/pmpb"
)

// Autopilot looks after the servers for as long as a leadership lasts: it judges
// their health, gives a vote to those that have proved themselves, takes it from
// those that are too many, and removes those that have been silent for too long.
// The library brings the loop and its rules for removals; who votes is decided by
// the promoter (promoter.go), what a server is like by its own answer to Identify.

// pilot is autopilot during one leadership.
type pilot struct {
	n *Node
	// number is that of the leadership's term.
	number uint64
	run    *autopilot.Autopilot
	// removals are the removals of dead servers that are under way.
	removals sync.WaitGroup
	ctx      context.Context

	mu sync.Mutex
	// met is when each server was first found in the configuration during this
	// leadership. heard is when it last answered, answers what it said; last is where
	// its log was when it did.
	met     map[raft.ServerID]time.Time
	heard   map[raft.ServerID]time.Time
	answers map[raft.ServerID]*pmpb.IdentifyResponse
	last    map[raft.ServerID]autopilot.ServerStats

	seen atomic.Pointer[sighting]
}

// flyWhile runs autopilot until ctx ends and returns when nothing of it is left.
func (n *Node) flyWhile(ctx context.Context, t *term) {
	p := &pilot{
		n: n, number: t.number, ctx: ctx, met: map[raft.ServerID]time.Time{}, heard: map[raft.ServerID]time.Time{},
		answers: map[raft.ServerID]*pmpb.IdentifyResponse{}, last: map[raft.ServerID]autopilot.ServerStats{},
	}
	p.run = autopilot.New(&boundedRaft{n: n, ctx: ctx}, p,
		autopilot.WithLogger(n.log.Named("autopilot")),
		autopilot.WithUpdateInterval(n.timing.Probe),
		autopilot.WithReconcileInterval(n.timing.Probe),
		autopilot.WithPromoter(&promoter{p: p}))
	t.pilot.Store(p)
	p.run.Start(ctx)
	<-ctx.Done()
	<-p.run.Stop()
	p.removals.Wait()
	n.m.forget()
}

// AutopilotConfig is part of autopilot's application interface.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	c := p.n.AutopilotConfig()
	return &autopilot.Config{
		CleanupDeadServers: c.GetCleanupDeadServers(), LastContactThreshold: c.GetLastContactThreshold().AsDuration(),
		MaxTrailingLogs: c.GetMaxTrailingLogs(), MinQuorum: uint(c.GetMinQuorum()), ServerStabilizationTime: c.GetServerStabilization().AsDuration(),
		Ext: c,
	}
}

// KnownServers gives every server of the configuration: nothing but the
// configuration says who belongs to the cluster, so none is ever taken for a
// stranger and removed at once. A server is dead when it has not answered for the
// grace that dead servers have.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	grace := p.n.AutopilotConfig().GetDeadServerGrace().AsDuration()
	out := map[raft.ServerID]*autopilot.Server{}
	servers := p.n.servers()
	p.meet(servers)
	for _, s := range servers {
		m := p.n.peers.lookup(string(s.ID))
		server := &autopilot.Server{
			ID: s.ID, Name: m.GetName(), Address: s.Address, Version: m.GetVersion(), RaftVersion: int(raft.ProtocolVersionMax),
			NodeStatus: autopilot.NodeAlive, IsLeader: string(s.ID) == p.n.serverID,
		}
		if s.Suffrage == raft.Voter {
			server.NodeType = autopilot.NodeVoter
		}
		if !server.IsLeader && p.silence(s.ID) > grace {
			server.NodeStatus = autopilot.NodeFailed
		}
		out[s.ID] = server
	}
	return out
}

// meet notes the servers that are new in the configuration, and forgets those that
// have left it.
func (p *pilot) meet(servers []raft.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	here := map[raft.ServerID]bool{}
	for _, s := range servers {
		here[s.ID] = true
		if _, known := p.met[s.ID]; !known {
			p.met[s.ID] = time.Now()
		}
	}
	for id := range p.met {
		if !here[id] {
			delete(p.met, id)
			delete(p.heard, id)
			delete(p.answers, id)
			delete(p.last, id)
			p.n.layer.contacts.forget(id)
		}
	}
}

// silence is for how long a server has answered neither autopilot's question nor a
// message of Raft: one whose gRPC port alone cannot be reached confirms entries, and
// its vote must not be taken away. One that never answered is counted from when it
// was met: a new leader does not know what its predecessor saw, and a server that
// has just joined was not silent before.
func (p *pilot) silence(id raft.ServerID) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.heard[id]
	if !ok {
		if last, ok = p.met[id]; !ok {
			return 0
		}
	}
	if contact := p.n.layer.contacts.last(id); contact.After(last) {
		last = contact
	}
	return time.Since(last)
}

// FetchServerStats asks all servers. The library gives it half of an interval.
func (p *pilot) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var others []raft.Server
	for id, s := range servers {
		if !s.IsLeader {
			others = append(others, raft.Server{ID: id, Address: s.Address})
		}
	}
	answers := p.n.identifyServers(ctx, others)
	asked := time.Now()
	out := map[raft.ServerID]*autopilot.ServerStats{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range answers {
		id := others[i].ID
		if a == nil {
			// The library would go on with what the server said last.
			out[id] = &autopilot.ServerStats{LastContact: math.MaxInt64, LastTerm: p.last[id].LastTerm, LastIndex: p.last[id].LastIndex}
			delete(p.answers, id)
			continue
		}
		p.heard[id], p.answers[id] = asked, a
		out[id] = statsOf(a)
		p.last[id] = *out[id]
		if a.GetLeaderId() != p.n.serverID {
			out[id].LastContact = math.MaxInt64 // it answers, but follows somebody else or nobody
		}
	}
	own := p.n.identity()
	p.answers[raft.ServerID(p.n.serverID)] = own
	out[raft.ServerID(p.n.serverID)] = statsOf(own)
	return out
}

func statsOf(a *pmpb.IdentifyResponse) *autopilot.ServerStats {
	return &autopilot.ServerStats{LastContact: a.GetLastContact().AsDuration(), LastTerm: a.GetLastLogTerm(), LastIndex: a.GetLastLogIndex()}
}

// NotifyState is told each new state.
func (p *pilot) NotifyState(s *autopilot.State) {
	seen := p.describe(s)
	p.seen.Store(seen)
	p.n.m.observe(p.picture(seen))
}

// RemoveFailedServer removes a dead server, in the background as the library asks.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	p.removals.Go(func() {
		p.n.log.Warn("a dead server is removed", "server_id", s.ID, "name", s.Name, "silent_for", p.silence(s.ID).Round(time.Second))
		p.n.joins.Lock()
		defer p.n.joins.Unlock()
		if err := p.n.changeConfig(p.ctx, func() raft.Future { return p.n.raft.RemoveServer(s.ID, 0, p.n.timing.RPC) }); err != nil {
			p.n.log.Warn("a dead server was not removed", "server_id", s.ID, "error", err)
			return
		}
		p.n.m.removals.Inc()
		p.n.noteLogged(p.ctx, p.number, "autopilot", "member.remove", string(s.ID), s.Name+", dead")
	})
}

// electorate is what the promoter decides by.
func (p *pilot) electorate(s *autopilot.State) *electorate {
	c := p.n.AutopilotConfig()
	e := &electorate{
		desired: int(c.GetDesiredVoters()), spread: c.GetSpreadZones(), stabilization: c.GetServerStabilization().AsDuration(),
		level: p.n.state.Snapshot().FeatureLevel(),
	}
	pinned := map[string]bool{}
	for _, id := range c.GetNonVoters() {
		pinned[id] = true
	}
	now := time.Now()
	for _, server := range p.n.servers() {
		id := string(server.ID)
		state := s.Servers[server.ID]
		if state == nil {
			continue // it came after the state was made
		}
		m := p.n.peers.lookup(id)
		e.servers = append(e.servers, candidate{
			id: id, zone: m.GetZone(), voter: server.Suffrage == raft.Voter, leader: id == p.n.serverID,
			healthy: state.Health.Healthy, since: now.Sub(state.Health.StableSince), failed: state.Server.NodeStatus != autopilot.NodeAlive,
			pinned: pinned[id], level: max(m.GetFeatureLevel(), 1),
		})
	}
	return e
}

// promoter puts the promotion rule into the library's form.
type promoter struct{ p *pilot }

func (*promoter) GetServerExt(*autopilot.Config, *autopilot.ServerState) any { return nil }
func (*promoter) GetStateExt(*autopilot.Config, *autopilot.State) any        { return nil }

func (*promoter) GetNodeTypes(_ *autopilot.Config, s *autopilot.State) map[raft.ServerID]autopilot.NodeType {
	out := map[raft.ServerID]autopilot.NodeType{}
	for id, server := range s.Servers {
		if server.HasVotingRights() {
			out[id] = autopilot.NodeVoter
		}
	}
	return out
}

func (*promoter) IsPotentialVoter(t autopilot.NodeType) bool { return t == autopilot.NodeVoter }

// FilterFailedServerRemovals lets the library's own rules decide: never a majority
// at once, never below the minimum.
func (*promoter) FilterFailedServerRemovals(_ *autopilot.Config, _ *autopilot.State, f *autopilot.FailedServers) *autopilot.FailedServers {
	return f
}

func (r *promoter) CalculatePromotionsAndDemotions(_ *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	b := r.p.electorate(s).decide()
	var out autopilot.RaftChanges
	for _, id := range b.promote {
		out.Promotions = append(out.Promotions, raft.ServerID(id))
	}
	for _, id := range b.demote {
		out.Demotions = append(out.Demotions, raft.ServerID(id))
	}
	out.Leader = raft.ServerID(b.successor)
	return out
}

// boundedRaft is the library's log for autopilot, whose waits end with the term:
// a future of the library may never be answered.
type boundedRaft struct {
	n   *Node
	ctx context.Context
}

func (r *boundedRaft) LastIndex() uint64          { return r.n.raft.LastIndex() }
func (r *boundedRaft) Leader() raft.ServerAddress { a, _ := r.n.raft.LeaderWithID(); return a }
func (r *boundedRaft) Stats() map[string]string   { return r.n.raft.Stats() }
func (r *boundedRaft) State() raft.RaftState      { return r.n.raft.State() }
func (r *boundedRaft) GetConfiguration() raft.ConfigurationFuture {
	return r.n.raft.GetConfiguration()
}

func (r *boundedRaft) AddNonvoter(id raft.ServerID, a raft.ServerAddress, prev uint64, timeout time.Duration) raft.IndexFuture {
	return r.change(func() raft.IndexFuture { return r.n.raft.AddNonvoter(id, a, prev, timeout) })
}

func (r *boundedRaft) AddVoter(id raft.ServerID, a raft.ServerAddress, prev uint64, timeout time.Duration) raft.IndexFuture {
	return r.change(func() raft.IndexFuture { return r.n.raft.AddVoter(id, a, prev, timeout) })
}

func (r *boundedRaft) DemoteVoter(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return r.change(func() raft.IndexFuture { return r.n.raft.DemoteVoter(id, prev, timeout) })
}

func (r *boundedRaft) RemoveServer(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return r.change(func() raft.IndexFuture { return r.n.raft.RemoveServer(id, prev, timeout) })
}

func (r *boundedRaft) LeadershipTransferToServer(id raft.ServerID, _ raft.ServerAddress) raft.Future {
	// Stepping down ends the term and waits for autopilot: autopilot cannot wait for
	// it in turn.
	if !r.n.begin() {
		return settled{err: ErrShutdown}
	}
	go func() {
		defer r.n.proposals.Done()
		if _, err := r.n.TransferTo(r.n.ctx, string(id)); err != nil {
			r.n.log.Warn("leadership was not handed over", "to", id, "error", err)
		}
	}()
	return settled{}
}

// change starts a change of the configuration and waits for it within the term.
func (r *boundedRaft) change(start func() raft.IndexFuture) raft.IndexFuture {
	r.n.joins.Lock()
	defer r.n.joins.Unlock()
	return settled{err: r.n.changeConfig(r.ctx, func() raft.Future { return start() })}
}

// settled is a future whose outcome is known.
type settled struct{ err error }

func (s settled) Error() error { return s.err }
func (settled) Index() uint64  { return 0 }

// errNoPilot says that autopilot has no picture yet.
var errNoPilot = errors.New("raftstore: autopilot has not looked at the servers yet, try again in a moment")

// Autopilot gives the leader's picture of the servers. It fails with ErrNotLeader
// on every other node.
func (n *Node) Autopilot() (*AutopilotState, error) {
	t := n.readyTerm()
	if t == nil {
		return nil, ErrNotLeader
	}
	p := t.pilot.Load()
	if p == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, errNoPilot)
	}
	seen := p.seen.Load()
	if seen == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, errNoPilot)
	}
	return p.picture(seen), nil
}
