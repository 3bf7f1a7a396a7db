package tunnel

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/proto/tunnelpb"
)

// Whatever happens in whatever order, streams and connections stay within their limits,
// a stream is taken once, every end of a pipe that nothing carries is closed, and the
// ways to a cluster are in order.
func TestTableKeepsCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := limits{connections: 3, ofCluster: 2, waiting: 2, active: 2}
		tab := newTable(limits, time.Now)
		var standing, takenBy []*offer
		pipes := map[*offer]net.Conn{} // the near ends of what was taken
		drop := func(o *offer) {
			standing = slices.DeleteFunc(standing, func(s *offer) bool { return s == o })
			takenBy = slices.DeleteFunc(takenBy, func(s *offer) bool { return s == o })
		}
		t.Repeat(map[string]func(*rapid.T){
			"offer": func(t *rapid.T) {
				o, _, err := tab.add(&tunnelpb.Hello{
					Cluster:    rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cluster"),
					ClusterUid: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "uid"),
					Instance:   rapid.SampledFrom([]string{"x", "y"}).Draw(t, "instance"), Connection: 1,
				}, "remote", nil)
				if err == nil {
					standing = append(standing, o)
				}
			},
			"take": func(t *rapid.T) {
				id := rapid.Uint64Range(1, tab.lastID+1).Draw(t, "id")
				c := tab.own[id]
				near, far := pipe("l", "r")
				if err := tab.take(id, Cluster{c.GetConnectionCluster(), c.GetConnectionUID()}, far); err != nil {
					return
				}
				for _, o := range standing {
					if len(o.taken) == 1 && pipes[o] == nil {
						pipes[o] = near
						takenBy = append(takenBy, o)
						return
					}
				}
				t.Fatal("a stream was taken that does not stand, or twice")
			},
			"end": func(t *rapid.T) {
				if len(standing) == 0 {
					return
				}
				o := rapid.SampledFrom(standing).Draw(t, "offer")
				tab.remove(o)
				drop(o)
				if near := pipes[o]; near != nil {
					if _, err := near.Write([]byte("x")); err == nil {
						t.Fatal("an end of a pipe was left open")
					}
				}
			},
			"hear of a peer": func(t *rapid.T) {
				tab.learn("pm-9", []*pmpb.AgentConnection{{
					Id: rapid.Uint64Range(1, 3).Draw(t, "id"), Cluster: "a", ClusterUid: "1", Instance: rapid.SampledFrom([]string{"w", "x", "z"}).Draw(t, "instance"),
				}}, []uint64{rapid.Uint64Range(1, 3).Draw(t, "removed")})
			},
			"lose a peer": func(*rapid.T) { tab.forget("pm-9") },
			"": func(t *rapid.T) {
				connections, waiting, active := tab.counts()
				if connections > limits.connections || waiting+active != len(standing) || active != len(takenBy) {
					t.Fatalf("%d connections, %d waiting, %d active; %d stand, %d are taken", connections, waiting, active, len(standing), len(takenBy))
				}
				ofCluster := map[string]int{}
				for _, c := range tab.own {
					ofCluster[c.GetCluster()]++
					if len(c.waiting) > limits.waiting || c.active > limits.active || len(c.waiting)+c.active != len(c.offers) || len(c.offers) == 0 {
						t.Fatalf("connection %v: %d waiting, %d active, %d offers", c.AgentConnection, len(c.waiting), c.active, len(c.offers))
					}
				}
				for cluster, n := range ofCluster {
					if n > limits.ofCluster {
						t.Fatalf("%d connections of %s", n, cluster)
					}
				}
				named := 0
				for name := range tab.named {
					routes, _ := tab.routes(Cluster{Name: name})
					named += len(routes)
				}
				routes, _ := tab.routes(Cluster{})
				if named != len(routes) {
					t.Fatalf("%d routes, %d of them by name", len(routes), named)
				}
				if !slices.IsSortedFunc(routes, func(a, b route) int { return strings.Compare(b.GetInstance(), a.GetInstance()) }) {
					t.Fatalf("routes are not in order: %v", routes)
				}
				if len(routes) != connections+len(tab.peers["pm-9"]) {
					t.Fatalf("%d routes", len(routes))
				}
			},
		})
	})
}

// GetConnectionCluster and GetConnectionUID work on a connection that does not exist.
func (c *connection) GetConnectionCluster() string {
	if c == nil {
		return ""
	}
	return c.GetCluster()
}

func (c *connection) GetConnectionUID() string {
	if c == nil {
		return ""
	}
	return c.GetClusterUid()
}

// Links spread over the addresses, and try another one than that which has just failed.
func TestAddressesAreSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "addresses")
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("pm-%d:1", i))
		}
		a := newAddresses(append(list, list[0]))
		var held []string
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "lose one") {
				lost := held[0]
				a.release(lost)
				held = held[1:]
				next := a.acquire(lost)
				held = append(held, next)
				if n > 1 && next == lost {
					t.Fatalf("%s is tried again at once", lost)
				}
				continue
			}
			if len(held) < n {
				held = append(held, a.acquire(""))
			}
		}
		used := map[string]int{}
		for _, h := range held {
			used[h]++
		}
		for address, n := range used {
			if n > 2 {
				t.Fatalf("%s is used %d times by %d links", address, n, len(held))
			}
		}
	})
}
