package raftstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

// The comparison of histories. Every command that the state machine applies
// extends a hash over all commands before it. Two servers whose hashes at one
// index differ have applied different commands, whatever the reason: a fault of
// a disk, of memory, or of this program. No later command makes that good.
//
// So every server compares itself with the others, continuously. The index at
// which it does must be one that they have all passed not long ago, as each
// remembers only the latest. One that differs from what a majority of the voters
// agrees on takes itself out; see quarantine. Where no majority agrees, nobody
// can tell who is right, and the leader makes the state read-only until all
// agree again.

const (
	// chainMemory is the number of commands whose hashes are remembered.
	chainMemory = 4096
	// maxChainIndexes bounds one question.
	maxChainIndexes = 64
)

// chainPoint is the hash over all commands up to the one at index.
type chainPoint struct {
	index uint64
	hash  []byte
}

// chainRing remembers the latest points. It is safe for concurrent use.
type chainRing struct {
	mu     sync.Mutex
	points []chainPoint // ascending; at most twice chainMemory
}

// add appends a point. Its index is above all others.
func (r *chainRing) add(points ...chainPoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.points = append(r.points, points...)
	if len(r.points) > 2*chainMemory {
		r.points = slices.Clone(r.points[len(r.points)-chainMemory:])
	}
}

// reset forgets everything but p: a snapshot has replaced the history.
func (r *chainRing) reset(p chainPoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.points = nil
	if len(p.hash) > 0 {
		r.points = []chainPoint{p}
	}
}

// find gives those of the indexes that are remembered, and the range of those
// that are; 0 when there are none.
func (r *chainRing) find(indexes []uint64) (found []chainPoint, oldest, newest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.points) == 0 {
		return nil, 0, 0
	}
	for _, want := range indexes {
		i := sort.Search(len(r.points), func(i int) bool { return r.points[i].index >= want })
		if i < len(r.points) && r.points[i].index == want {
			found = append(found, r.points[i])
		}
	}
	return found, r.points[0].index, r.points[len(r.points)-1].index
}

// sample gives points to ask others for, newest first: at distances that double,
// so that one is near to wherever another server has come.
func (r *chainRing) sample() []chainPoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []chainPoint
	for back := 1; back <= len(r.points) && len(out) < maxChainIndexes; back *= 2 {
		out = append(out, r.points[len(r.points)-back])
	}
	return out
}

// Chain answers with the hashes of this node's history.
func (s *peerServer) Chain(ctx context.Context, r *pmpb.ChainRequest) (*pmpb.ChainResponse, error) {
	if err := s.checkCluster(ctx, r.GetClusterId()); err != nil {
		return nil, err
	}
	if n := len(r.GetIndexes()); n > maxChainIndexes {
		return nil, status.Errorf(codes.InvalidArgument, "%d indexes, at most %d are answered", n, maxChainIndexes)
	}
	ring := &s.n.fsm.chain
	points, oldest, newest := ring.find(r.GetIndexes())
	if len(r.GetIndexes()) == 0 && newest != 0 {
		points, oldest, newest = ring.find([]uint64{newest})
	}
	resp := &pmpb.ChainResponse{ServerId: s.n.serverID, OldestIndex: oldest, NewestIndex: newest}
	for _, p := range points {
		resp.Points = append(resp.Points, &pmpb.ChainPoint{Index: p.index, Hash: p.hash})
	}
	return resp, nil
}

// chainAnswer is what one server said about its history.
type chainAnswer struct {
	id     string
	voter  bool
	points map[uint64][]byte
	newest uint64
	err    error
}

// at gives the server's hash at index, nil when it is not known.
func (a *chainAnswer) at(index uint64) []byte { return a.points[index] }

// askChains asks all other servers for their hashes at the points' indexes.
func (n *Node) askChains(ctx context.Context, servers []raft.Server, points []chainPoint) []chainAnswer {
	req := &pmpb.ChainRequest{ClusterId: n.ClusterID()}
	for _, p := range points {
		req.Indexes = append(req.Indexes, p.index)
	}
	out := make([]chainAnswer, 0, len(servers))
	for _, s := range servers {
		if string(s.ID) != n.serverID {
			out = append(out, chainAnswer{id: string(s.ID), voter: s.Suffrage == raft.Voter})
		}
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { n.askChain(ctx, &out[i], req) })
	}
	wg.Wait()
	return out
}

func (n *Node) askChain(ctx context.Context, a *chainAnswer, req *pmpb.ChainRequest) {
	conn, err := n.peers.connTo(a.id)
	if err != nil {
		a.err = err
		return
	}
	resp, err := pmpb.NewPeerServiceClient(conn).Chain(ctx, req)
	switch {
	case err != nil:
		a.err = err
		return
	case resp.GetServerId() != a.id:
		n.peers.forget(a.id)
		a.err = fmt.Errorf("its address is now that of server %s", resp.GetServerId())
		return
	}
	a.newest = resp.GetNewestIndex()
	a.points = make(map[uint64][]byte, len(resp.GetPoints()))
	for _, p := range resp.GetPoints() {
		a.points[p.GetIndex()] = p.GetHash()
	}
}

// chainVerdict is what a comparison came to.
type chainVerdict struct {
	// diverged is set when a majority of the voters contradicts this server.
	diverged *DivergedError
	// disputed are the servers that differ from this one while no majority tells
	// who is right, and at is an index where they do.
	disputed []string
	at       uint64
	// agreed is the newest index at which a majority agrees with this server.
	agreed uint64
	// unanimous: every server answered and has the history of this one.
	unanimous bool
}

// judgeChains compares this server's points, newest first, with the answers of
// all others. votes says that this server is a voter itself.
func judgeChains(own []chainPoint, votes bool, answers []chainAnswer) chainVerdict {
	voters := 0
	if votes {
		voters++
	}
	for _, a := range answers {
		if a.voter {
			voters++
		}
	}
	v := chainVerdict{unanimous: true}
	for _, a := range answers {
		v.unanimous = v.unanimous && sharesHistory(own, &a)
	}
	differ := map[string]bool{}
	for _, p := range own {
		hash, with := majorityHash(p, votes, answers, voters/2+1)
		here := differing(p, answers)
		if hash != nil && !bytes.Equal(hash, p.hash) {
			v.diverged = &DivergedError{Index: p.index, Own: hex.EncodeToString(p.hash), Majority: hex.EncodeToString(hash), Servers: with}
			return v
		}
		if hash != nil {
			// Those who differ here are the minority and see it themselves.
			for id := range here {
				delete(differ, id)
			}
			v.agreed = p.index
			break
		}
		for id := range here {
			if !differ[id] {
				differ[id], v.at = true, p.index
			}
		}
	}
	for id := range differ {
		v.disputed = append(v.disputed, id)
	}
	slices.Sort(v.disputed)
	return v
}

// sharesHistory: the server knows at least one of the points, and none otherwise.
func sharesHistory(own []chainPoint, a *chainAnswer) bool {
	known := false
	for _, p := range own {
		if h := a.at(p.index); h != nil {
			if !bytes.Equal(h, p.hash) {
				return false
			}
			known = true
		}
	}
	return known
}

// majorityHash gives the hash that at least need voters have at a point's index,
// nil when there is none, and the servers that have it.
func majorityHash(p chainPoint, votes bool, answers []chainAnswer, need int) (hash []byte, with []string) {
	count := map[string]int{}
	if votes {
		count[string(p.hash)]++
	}
	for _, a := range answers {
		if h := a.at(p.index); a.voter && h != nil {
			count[string(h)]++
		}
	}
	for h, c := range count {
		if c < need {
			continue
		}
		for _, a := range answers {
			if string(a.at(p.index)) == h {
				with = append(with, a.id)
			}
		}
		return []byte(h), with
	}
	return nil, nil
}

func differing(p chainPoint, answers []chainAnswer) map[string]bool {
	out := map[string]bool{}
	for _, a := range answers {
		if h := a.at(p.index); h != nil && !bytes.Equal(h, p.hash) {
			out[a.id] = true
		}
	}
	return out
}

// ChainReport compares the histories of all servers.
type ChainReport struct {
	// Index is the newest command that all servers that answered have applied and
	// still remember; 0 when there is none.
	Index uint64
	// Agree says that every server answered and that their hashes at Index are the
	// same.
	Agree bool
	// Servers are those of the configuration, this one first.
	Servers []ChainOfServer
}

// ChainOfServer is one server's history.
type ChainOfServer struct {
	ID string
	// Index is where Hash was taken: the report's index or, if there is none, the
	// server's newest.
	Index uint64
	// Hash is hexadecimal; empty when the server did not answer.
	Hash string
	// Err says why there is no hash.
	Err error
}

// ChainReport asks all servers for the hash over the commands that they have
// applied. It works on every node.
func (n *Node) ChainReport(ctx context.Context) (*ChainReport, error) {
	if n.ctx.Err() != nil {
		return nil, ErrShutdown
	}
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPC)
	defer cancel()
	own := n.fsm.chain.sample()
	answers := n.askChains(ctx, n.servers(), own)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	}
	r := &ChainReport{Agree: true}
	for _, p := range own {
		if !slices.ContainsFunc(answers, func(a chainAnswer) bool { return a.err == nil && a.at(p.index) == nil }) {
			r.Index = p.index
			r.Servers = append(r.Servers, ChainOfServer{ID: n.serverID, Index: p.index, Hash: hex.EncodeToString(p.hash)})
			break
		}
	}
	if r.Index == 0 {
		r.Agree = false
		r.Servers = append(r.Servers, ChainOfServer{ID: n.serverID, Index: n.applied.get(), Err: errNoCommonIndex})
	}
	for _, a := range answers {
		s := ChainOfServer{ID: a.id, Index: a.newest, Err: a.err}
		if h := a.at(r.Index); h != nil {
			s.Index, s.Hash = r.Index, hex.EncodeToString(h)
		} else if s.Err == nil {
			s.Err = errNoCommonIndex
		}
		r.Agree = r.Agree && s.Err == nil && s.Hash == r.Servers[0].Hash
		r.Servers = append(r.Servers, s)
	}
	return r, nil
}

var errNoCommonIndex = errors.New("raftstore: there is no command that all servers remember")
