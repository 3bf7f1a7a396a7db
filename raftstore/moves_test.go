package raftstore

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// take gives n the addresses, as a restart on another machine may.
func (n *testNode) take(raftAddr, grpcAddr string) {
	n.c.net.mu.Lock()
	defer n.c.net.mu.Unlock()
	n.raftAddr, n.grpcAddr = raftAddr, grpcAddr
	n.c.net.owner[raftAddr], n.c.net.owner[grpcAddr] = place{n.name, true}, place{n.name, false}
}

// Nodes that come back at each other's addresses are the same servers as before, with
// their votes: an address that was given to another one says nothing about a disk.
func TestNodesExchangeAddresses(t *testing.T) {
	t.Parallel()
	for name, pick := range map[string]func(c *testCluster) []*testNode{
		"two followers": func(c *testCluster) []*testNode { return c.others(c.leader()) },
		"all":           func(c *testCluster) []*testNode { return c.nodes },
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 3)
			c.write("k", "v")
			c.expectEverywhere("k", "v")
			moving := pick(c)
			ids := map[*testNode]string{}
			var at [][2]string
			for _, n := range moving {
				ids[n] = n.ServerID()
				at = append(at, [2]string{n.raftAddr, n.grpcAddr})
				n.kill()
			}
			for i, n := range moving {
				to := at[(i+1)%len(at)]
				n.take(to[0], to[1])
			}
			for _, n := range moving {
				n.start()
			}
			c.expectVoters(c.nodes...)
			c.write("k", "exchanged")
			c.expectEverywhere("k", "exchanged")
			for _, n := range moving {
				if n.ServerID() != ids[n] {
					t.Errorf("%s has another id", n.name)
				}
			}
		})
	}
}

// A data directory that was copied must not vote twice: the process that came second
// ends, whether or not the first one leads.
func TestCopiedDirectoryEnds(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"a follower", "the leader"} {
		t.Run(of, func(t *testing.T) {
			c := startCluster(t, 3)
			c.write("k", "v")
			c.expectEverywhere("k", "v")
			first := c.leader()
			if of == "a follower" {
				first = c.others(first)[0]
			}
			eventually(t, "all know where it is", func() error {
				for _, n := range c.nodes {
					if m := n.State().Snapshot().Member(first.ServerID()); m.GetGrpcAddress() != first.grpcAddr {
						return fmt.Errorf("%s knows %v", n.name, m)
					}
				}
				return nil
			})
			// A copy that is whole needs a process that is stopped.
			id := first.ServerID()
			first.kill()
			second := c.add("copy")
			if err := os.CopyFS(second.dir, os.DirFS(first.dir)); err != nil {
				t.Fatal(err)
			}
			first.start()
			c.expectVoters(c.nodes[:3]...)
			for of == "the leader" && c.leader() != first {
				_, _ = c.leader().TransferTo(within(t, patience), id) // it may have to catch up
			}
			second.start()
			if second.ServerID() != id {
				t.Fatalf("the copy is server %s, not %s", second.ServerID(), id)
			}
			select {
			case err := <-second.Fatal():
				if !errors.Is(err, ErrCopied) || !strings.Contains(err.Error(), first.grpcAddr) || !strings.Contains(err.Error(), second.dir) {
					t.Errorf("the copy ends with %v", err)
				}
			case <-within(t, patience).Done():
				t.Fatal("the copy goes on")
			}
			c.expectVoters(c.nodes[:3]...)
			c.write("k", "after")
			second.kill()
			c.expectEverywhere("k", "after")
		})
	}
}
