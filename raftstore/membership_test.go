package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// expectVoters waits until the configuration has want voters and no other
// servers, on the leader and on each of them.
func (c *testCluster) expectVoters(want ...*testNode) {
	c.t.Helper()
	c.expectServers(want, nil)
}

// expectServers waits for those voters and those spares.
func (c *testCluster) expectServers(voters, spares []*testNode) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("voters are %v, spares %v", names(voters), names(spares)), func() error {
		for _, viewer := range append([]*testNode{c.leader()}, voters...) {
			if !viewer.running() {
				continue
			}
			servers := viewer.Servers()
			if len(servers) != len(voters)+len(spares) {
				return fmt.Errorf("%s sees %+v", viewer.name, servers)
			}
			for i, n := range append(slices.Clone(voters), spares...) {
				if !slices.ContainsFunc(servers, func(s Server) bool {
					return s.ID == n.ServerID() && s.Voter == (i < len(voters)) && s.RaftAddress == n.raftAddr
				}) {
					return fmt.Errorf("%s is not what is wanted in %+v of %s", n.name, servers, viewer.name)
				}
			}
		}
		return nil
	})
}

func TestJoinAndPromotion(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start()
	c.write("k", "v")
	n4 := c.add("n4") // has the founders as its peers, itself not
	n4.start()
	c.expectServers(c.nodes[:3], c.nodes[3:]) // a fourth vote would help nobody
	n5 := c.add("n5")
	n5.start()
	c.expectVoters(c.nodes...)
	c.expectEverywhere("k", "v")
	if n4.ClusterID() != c.leader().ClusterID() {
		t.Errorf("n4 is in cluster %q", n4.ClusterID())
	}
	eventually(t, "n4 is in the members table", func() error {
		if m := c.nodes[0].State().Snapshot().Member(n4.ServerID()); m.GetGrpcAddress() != n4.grpcAddr {
			return fmt.Errorf("row %v", m)
		}
		return nil
	})
	c.expectQuorum(n4)
}

// expectQuorum proves that n's vote counts: half of the voters and n commit.
func (c *testCluster) expectQuorum(n *testNode) {
	c.t.Helper()
	for _, o := range c.nodes {
		if o != n && o.running() && !o.IsLeader() {
			o.kill()
			break
		}
	}
	c.write("with-"+n.name, "yes")
}

// A node that lost its disk comes back as a new server: it neither founds a
// cluster nor votes under its old id, and replaces the server that it was.
func TestWipedNodeComesBackAsNewServer(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"everything", "the log"} {
		t.Run(what, func(t *testing.T) {
			c := startCluster(t, 3)
			clusterID := c.leader().ClusterID()
			c.write("k", "v")
			founder := c.nodes[0]
			for _, n := range c.nodes {
				if n.grpcAddr < founder.grpcAddr {
					founder = n
				}
			}
			oldID := founder.ServerID()
			others := c.others(founder)
			founder.kill()
			if what == "everything" {
				founder.dir = t.TempDir()
			} else if err := os.RemoveAll(filepath.Join(founder.dir, raftDir)); err != nil {
				t.Fatal(err)
			}

			// Alone with one that remembers, but cannot lead, it waits.
			others[1].kill()
			founder.start()
			if founder.ServerID() == oldID {
				t.Fatal("the wiped node has its old id")
			}
			eventually(t, "the peer was asked", func() error {
				d := founder.survey(t.Context())
				if d.action == foundCluster {
					t.Fatal("the wiped node founds a cluster")
				}
				if d.action != joinCluster && d.reason == "" {
					return errors.New("undecided")
				}
				return nil
			})
			if founder.IsLeader() || founder.raft.LastIndex() != 0 {
				t.Fatal("the wiped node leads something")
			}

			others[1].start()
			c.expectVoters(c.nodes...)
			c.expectEverywhere("k", "v")
			if got := founder.ClusterID(); got != clusterID {
				t.Errorf("cluster id %q, want %q", got, clusterID)
			}
			for _, s := range c.leader().Servers() {
				if s.ID == oldID {
					t.Error("the lost server is still configured")
				}
			}
		})
	}
}

// While the address's owner is alive, no newcomer takes its place.
func TestJoinCannotReplaceLiveServer(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	victim := c.others(c.leader())[0]
	c.expectVoters(c.nodes...)
	thief := c.add("thief")
	eventually(t, "the leader knows the victim", func() error {
		if c.leader().peers.lookup(victim.ServerID()) == nil {
			return errors.New("not yet")
		}
		return nil
	})
	real := thief.raftAddr
	thief.configure = func(o *Options) { o.RaftAddress = victim.raftAddr }
	thief.raftAddr = real
	thief.start()
	err := thief.join(within(t, patience), c.leader().grpcAddr, "")
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("join at a live server's address = %v", err)
	}
	c.expectVoters(c.nodes[:3]...)
}

// A server that was removed does not creep back in with its next announcement.
func TestRemovedServerStaysOut(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	leader := c.leader()
	out := c.others(leader)[0]
	if err := leader.changeConfig(within(t, patience), func() raft.Future {
		return leader.raft.RemoveServer(raft.ServerID(out.ServerID()), 0, 0)
	}); err != nil {
		t.Fatal(err)
	}
	expectRemoved(t, out)
	if got := len(leader.Servers()); got != 2 {
		t.Errorf("%d servers", got)
	}
	// Neither does it when it is started again.
	out.kill()
	term := leader.Term()
	out.start()
	expectRemoved(t, out)
	if leader.Term() != term || !leader.IsLeader() {
		t.Errorf("a removed server disturbed the others: term %d became %d", term, leader.Term())
	}
}

// expectRemoved waits until the node has found out that it was removed, and ends.
func expectRemoved(t *testing.T, n *testNode) {
	t.Helper()
	select {
	case err := <-n.Fatal():
		if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), n.dir) {
			t.Errorf("a removed server ends with %v", err)
		}
	case <-within(t, patience).Done():
		t.Error("a removed server goes on")
	}
}

// All nodes come back at once with other IPs behind the same names, as the pods of
// a Kubernetes StatefulSet may.
func TestAllNodesComeBackWithOtherIPs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	var mu sync.Mutex
	addresses := map[string]string{} // by name
	names := map[*testNode][2]string{}
	var peers []string
	for _, n := range c.nodes {
		names[n] = [2]string{n.name + ".pm.test:7401", n.name + ".pm.test:7402"}
		peers = append(peers, names[n][1])
	}
	publish := func(n *testNode) {
		mu.Lock()
		defer mu.Unlock()
		addresses[names[n][0]], addresses[names[n][1]] = n.raftAddr, n.grpcAddr
	}
	for _, n := range c.nodes {
		publish(n)
		n.configure = func(o *Options) {
			dial := o.Dial
			o.RaftAddress, o.GRPCAddress, o.Peers = names[n][0], names[n][1], peers
			o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
				mu.Lock()
				at := addresses[address]
				mu.Unlock()
				return dial(ctx, at)
			}
		}
	}
	c.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	ids := map[*testNode]string{}
	for _, n := range c.nodes {
		ids[n] = n.ServerID()
		n.kill()
	}
	for _, n := range c.nodes {
		n.raftAddr, n.grpcAddr = freeAddress(t), freeAddress(t)
		publish(n)
	}
	for _, n := range c.nodes {
		n.start()
		if n.ServerID() != ids[n] {
			t.Errorf("%s has another id", n.name)
		}
	}
	c.write("k", "elsewhere")
	c.expectEverywhere("k", "elsewhere")
	if servers := c.leader().Servers(); len(servers) != 3 {
		t.Errorf("the servers are %+v", servers)
	}
}

// More nodes than may be missing come back at other addresses at once. No leader can
// learn of it before they have found each other.
func TestMajorityComesBackElsewhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		moved func(i int) bool
		// told says that the list of peers has the new addresses.
		told bool
	}{
		"all, and the peers are told":           {func(int) bool { return true }, true},
		"two, and only the third is told right": {func(i int) bool { return i > 0 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 3)
			c.write("k", "v")
			c.expectEverywhere("k", "v")
			var ids []string
			for _, n := range c.nodes {
				ids = append(ids, n.ServerID())
				n.kill()
			}
			var peers []string
			for i, n := range c.nodes {
				if tt.moved(i) {
					n.raftAddr, n.grpcAddr = freeAddress(t), freeAddress(t)
					c.net.mu.Lock()
					c.net.owner[n.raftAddr], c.net.owner[n.grpcAddr] = place{n.name, true}, place{n.name, false}
					c.net.mu.Unlock()
				}
				peers = append(peers, n.grpcAddr)
			}
			if tt.told {
				c.peers = peers
			}
			for i, n := range c.nodes {
				n.start()
				if n.ServerID() != ids[i] {
					t.Errorf("%s has another id", n.name)
				}
			}
			c.write("k", "elsewhere")
			c.expectEverywhere("k", "elsewhere")
			c.expectVoters(c.nodes...)
			eventually(t, "the configuration has the new addresses", func() error {
				for _, s := range c.leader().Servers() {
					for _, n := range c.nodes {
						if s.ID == n.ServerID() && (s.RaftAddress != n.raftAddr || s.GRPCAddress != n.grpcAddr) {
							return fmt.Errorf("%+v, %s is at %s", s, n.name, n.raftAddr)
						}
					}
				}
				return nil
			})
		})
	}
}

// Nodes come back under other addresses, one at a time: first a follower, then
// the leader.
func TestReaddress(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	for _, pick := range []func() *testNode{func() *testNode { return c.others(c.leader())[0] }, c.leader} {
		n := pick()
		id := n.ServerID()
		n.kill()
		n.raftAddr = freeAddress(t)
		c.net.mu.Lock()
		c.net.owner[n.raftAddr] = place{n.name, true}
		c.net.mu.Unlock()
		n.start()
		if n.ServerID() != id {
			t.Fatal("the id changed with the address")
		}
		c.expectVoters(c.nodes...)
		c.write("k", "at "+n.raftAddr)
		c.expectEverywhere("k", "at "+n.raftAddr)
	}
}

// Addresses are names, resolved when dialled.
func TestAddressesAreNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		_, port, err := net.SplitHostPort(n.raftAddr)
		if err != nil {
			t.Fatal(err)
		}
		n.raftAddr = net.JoinHostPort("127.0.0.1", port)
		name := net.JoinHostPort("localhost", port)
		c.net.owner[name] = place{n.name, true}
		n.configure = func(o *Options) { o.RaftAddress = name }
	}
	c.start()
	c.write("k", "v")
	c.expectEverywhere("k", "v")
	for _, s := range c.leader().Servers() {
		if host, _, _ := net.SplitHostPort(s.RaftAddress); host != "localhost" {
			t.Errorf("server %s is configured as %s", s.ID, s.RaftAddress)
		}
	}
}

// A quiet cluster whose last entry is a membership change can take a snapshot,
// and reads there do not wait for an index that no state machine will see.
func TestConfigurationAsLastEntry(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.write("k", "v")
	leader := c.leader()
	eventually(t, "the members table is complete", func() error {
		if got := len(leader.State().Snapshot().Members()); got != 3 {
			return fmt.Errorf("%d members", got)
		}
		return nil
	})
	if err := leader.changeConfig(within(t, patience), func() raft.Future {
		return leader.raft.AddNonvoter("00000000-0000-4000-8000-000000000001", "127.0.0.1:1", 0, 0)
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if _, err := n.ReadBarrier(within(t, patience)); err != nil {
			t.Errorf("read on %s: %v", n.name, err)
		}
		eventually(t, n.name+" has the configuration", func() error {
			if got := len(n.servers()); got != 4 || n.raft.AppliedIndex() < n.raft.LastIndex() {
				return fmt.Errorf("%d servers", got)
			}
			return nil
		})
		eventually(t, "snapshot on "+n.name, n.raft.Snapshot().Error)
	}
}

// The leader that lets a server in loses its place before that is committed. Its
// successor knows nothing of the server, which is not a removed one for that: it
// joins again.
func TestJoinerOfAReplacedLeaderJoinsAgain(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted=%t", restarted), func(t *testing.T) { joinAgain(t, restarted) })
	}
}

func joinAgain(t *testing.T, restarted bool) {
	c, old := startWithDeludedLeader(t)
	others := c.others(old)
	c.net.isolate(old.name, names(others), false)
	joiner := c.add("n4")
	c.net.isolate(joiner.name, names(others), false)
	joiner.start()
	eventually(t, "the server is let in by a leader that nobody follows", func() error {
		if got := len(joiner.servers()); got != 4 || joiner.ClusterID() == "" {
			return fmt.Errorf("%d servers, cluster %q", got, joiner.ClusterID())
		}
		return nil
	})
	successor := c.newLeader(old)
	if restarted {
		joiner.kill()
		joiner.start()
	}
	if got := len(successor.Servers()); got != 3 {
		t.Fatalf("the successor has %d servers", got)
	}
	c.net.heal()
	eventually(t, "the server is in the cluster", func() error {
		select {
		case err := <-joiner.Fatal():
			t.Fatalf("the server ended with %v", err)
		default:
		}
		if got := len(successor.Servers()); got != 4 {
			return fmt.Errorf("%d servers", got)
		}
		return nil
	})
	c.write("k", "new")
	c.expectEverywhere("k", "new")
}
