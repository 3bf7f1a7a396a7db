package raftstore

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A candidate hears of the next term's leader before the last vote of its own term comes
// in. With heartbeats beside the main loop, that loop would still be counting votes, and
// make the node the second leader of the term that the heartbeat has brought.
func TestLateVoteMakesNoSecondLeader(t *testing.T) {
	voter, leader := newScriptedPeer(t, "V"), newScriptedPeer(t, "L")
	candidate := startAmong(t, "C", voter, leader)

	pre := <-voter.preVotes
	pre.Respond(&raft.RequestPreVoteResponse{RPCHeader: voter.header(), Term: pre.Command.(*raft.RequestPreVoteRequest).Term, Granted: true}, nil)
	var late raft.RPC
	select {
	case late = <-voter.votes:
	case <-time.After(patience):
		t.Fatal("no vote is asked for")
	}
	term := late.Command.(*raft.RequestVoteRequest).Term

	next := term + 1
	var resp raft.AppendEntriesResponse
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: leader.header(), Term: next}
	if err := leader.AppendEntries(candidate.ID, candidate.Address, heartbeat, &resp); err != nil || resp.Term != next {
		t.Fatalf("the heartbeat of term %d is answered with %+v, %v", next, resp, err)
	}
	late.Respond(&raft.RequestVoteResponse{RPCHeader: voter.header(), Term: term, Granted: true}, nil)

	// What it does next shows what it takes itself for.
	select {
	case rpc := <-voter.entries:
		t.Fatalf("%+v: elected in term %d, the node leads in term %d, which has another leader", rpc.Command, term, next)
	case <-voter.preVotes:
	case <-time.After(patience):
		t.Fatal("the node neither leads nor stands for another election")
	}
}

// scriptedPeer is a server of which there is nothing but the transport: a test answers in
// its name.
type scriptedPeer struct {
	raft.Transport
	server                   raft.Server
	preVotes, votes, entries chan raft.RPC
}

func newScriptedPeer(t *testing.T, id string) *scriptedPeer {
	t.Helper()
	layer, _ := testLayer(t, id, "")
	p := &scriptedPeer{
		Transport: newTransport(layer, testTiming, testLogger(id)),
		server:    raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(layer.Addr().String())},
		preVotes:  make(chan raft.RPC, 64), votes: make(chan raft.RPC, 64), entries: make(chan raft.RPC, 64),
	}
	stop := make(chan struct{})
	var sorting sync.WaitGroup
	sorting.Go(func() { p.sort(stop) })
	t.Cleanup(func() {
		close(stop)
		sorting.Wait()
		closeTransport(p.Transport)
	})
	return p
}

// sort parts the messages by what they are. None is answered here.
func (p *scriptedPeer) sort(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case rpc := <-p.Consumer():
			to := p.entries
			switch rpc.Command.(type) {
			case *raft.RequestPreVoteRequest:
				to = p.preVotes
			case *raft.RequestVoteRequest:
				to = p.votes
			}
			select {
			case to <- rpc:
			case <-stop:
				return
			}
		}
	}
}

func (p *scriptedPeer) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(p.server.ID), Addr: []byte(p.server.Address)}
}

// startAmong runs the library on our transport, as a voter among peers, and gives the server.
func startAmong(t *testing.T, id string, peers ...*scriptedPeer) raft.Server {
	t.Helper()
	layer, _ := testLayer(t, id, "")
	own := raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(layer.Addr().String())}
	servers := []raft.Server{own}
	for _, p := range peers {
		servers = append(servers, p.server)
	}
	config := (&Node{serverID: id, timing: testTiming, log: testLogger(id)}).raftConfig()
	config.ElectionTimeout, config.LeaderLeaseTimeout = config.HeartbeatTimeout, config.HeartbeatTimeout
	config.SnapshotThreshold = 1
	store, snapshots, transport := raft.NewInmemStore(), raft.NewDiscardSnapshotStore(), newTransport(layer, testTiming, testLogger(id))
	if err := raft.BootstrapCluster(config, store, store, snapshots, transport, raft.Configuration{Servers: servers}); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(config, &raft.MockFSM{}, store, store, snapshots, transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return own
}
