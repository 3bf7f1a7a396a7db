package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/netlab"
)

// way is one direction between two hosts.
type way struct {
	from, to string
	ports    []int
}

// links are the nemeses of the network.
func links() []Nemesis {
	cuts := []struct {
		name, about string
		needs       []cluster.Fault
		choose      func(context.Context, *Target, *rand.Rand) ([]string, string, []way, error)
	}{
		{"partition-leader", "The leader cannot reach any other node, nor they it; clients and clusters still reach all.", nil, cutLeader},
		{"partition-follower", "A node that does not lead is cut off from the others.", nil, cutFollower},
		{"partition-halves", "A random minority is cut off from the rest.", nil, cutHalves},
		{"partition-ring", "Every node hears a majority, and no two hear the same one.", nil, cutRing},
		{"partition-bridge", "Two halves that only one node reaches both of.", nil, cutBridge},
		{"partition-one-way", "The leader is heard by the others and does not hear them, or the other way round.", nil, cutOneWay},
		{"partition-clusters", "No node reaches the clusters' managers, or the leader alone does not.", nil, cutClusters},
		{"partition-gossip", "Nobody hears anybody's gossip.", []cluster.Fault{cluster.FaultPorts, cluster.FaultDatagrams}, cutGossip},
	}
	var all []Nemesis
	for _, c := range cuts {
		all = append(all, &kind{
			name: c.name, about: c.about, parts: []Part{Network},
			available: needs(append([]cluster.Fault{cluster.FaultCut}, c.needs...)...),
			choose: func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
				nodes, text, ways, err := c.choose(ctx, t, random)
				if err != nil {
					return nil, err
				}
				return cutting(t, nodes, text, ways), nil
			},
		})
	}
	return append(all,
		&kind{
			name: "slow-link", about: "Links between nodes delay: all by a little, or the leader's way to the others by seconds.",
			parts: []Part{Network}, available: needs(cluster.FaultDelay), choose: slowLinks,
		},
		&kind{
			name: "slow-clusters", about: "Calls from the nodes to the clusters arrive seconds late.",
			parts: []Part{Network}, available: needs(cluster.FaultDelay), choose: slowClusters,
		},
		&kind{
			name: "lossy-link", about: "Links between nodes, clients and clusters lose up to a third of all packets.",
			parts: []Part{Network}, available: needs(cluster.FaultLoss), choose: lossyLinks,
		},
	)
}

// needs makes the check that the network can make some faults.
func needs(faults ...cluster.Fault) func(*Target) error {
	return func(t *Target) error {
		var errs []error
		for _, f := range faults {
			errs = append(errs, t.Cluster.Faults()[f])
		}
		return errors.Join(errs...)
	}
}

// cutting is the fault of ways that let nothing through.
func cutting(t *Target, nodes []string, text string, ways []way) *Fault {
	net := t.Cluster.Network()
	return &Fault{
		Nodes: nodes, Text: text,
		Begin: func(context.Context) error {
			for _, w := range ways {
				if err := net.Cut(w.from, w.to, w.ports...); err != nil {
					return err
				}
			}
			return nil
		},
		End: func(context.Context) error { return healing(net, ways) },
	}
}

// shaping is the fault of ways that are worse than they should be.
func shaping(t *Target, nodes []string, text string, shape netlab.Shape, ways []way) *Fault {
	net := t.Cluster.Network()
	return &Fault{
		Nodes: nodes, Text: text,
		Begin: func(context.Context) error {
			for _, w := range ways {
				if err := net.Shape(w.from, w.to, shape, w.ports...); err != nil {
					return err
				}
			}
			return nil
		},
		End: func(context.Context) error { return healing(net, ways) },
	}
}

func healing(net cluster.Network, ways []way) error {
	var errs []error
	for _, w := range ways {
		errs = append(errs, net.Heal(w.from, w.to))
	}
	return errors.Join(errs...)
}

// apart are all ways between two groups, in both directions.
func apart(a, b []string) (ways []way) {
	for _, x := range a {
		for _, y := range b {
			ways = append(ways, way{from: x, to: y}, way{from: y, to: x})
		}
	}
	return ways
}

// others are the names of all nodes but some.
func (t *Target) others(but ...string) (out []string) {
	for _, n := range t.Cluster.Nodes() {
		if !slices.Contains(but, n.Name()) {
			out = append(out, n.Name())
		}
	}
	return out
}

func cutLeader(ctx context.Context, t *Target, _ *rand.Rand) ([]string, string, []way, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, "", nil, err
	}
	name := []string{leader.Name()}
	return name, "alone", apart(name, t.others(name...)), nil
}

func cutFollower(ctx context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	follower, err := t.follower(ctx, random)
	if err != nil {
		return nil, "", nil, err
	}
	name := []string{follower.Name()}
	return name, "alone", apart(name, t.others(name...)), nil
}

func cutHalves(_ context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	all := names(shuffled(random, t.Cluster.Nodes()))
	n := t.majority()
	return all[n:], strings.Join(all[:n], ",") + " on the other side", apart(all[n:], all[:n]), nil
}

// cutRing lets each node hear as many neighbours, on both sides of it in a ring, as it needs for a majority with itself.
func cutRing(_ context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	all := names(shuffled(random, t.Cluster.Nodes()))
	n := len(all)
	var ways []way
	for i, node := range all {
		hears := map[string]bool{node: true}
		for k := range n / 2 {
			step := k/2 + 1
			if k%2 == 1 {
				step = -step
			}
			hears[all[(i+step+n)%n]] = true
		}
		for _, other := range all {
			if !hears[other] {
				ways = append(ways, way{from: other, to: node})
			}
		}
	}
	return all, "in a ring", ways, nil
}

func cutBridge(_ context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	all := names(shuffled(random, t.Cluster.Nodes()))
	bridge, rest := all[0], all[1:]
	half := len(rest) / 2
	return []string{bridge}, fmt.Sprintf("between %s and %s", strings.Join(rest[:half], ","), strings.Join(rest[half:], ",")), apart(rest[:half], rest[half:]), nil
}

func cutOneWay(ctx context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, "", nil, err
	}
	hears := random.IntN(2) == 0
	text := "is heard and does not hear"
	if hears {
		text = "hears and is not heard"
	}
	var ways []way
	for _, other := range t.others(leader.Name()) {
		w := way{from: other, to: leader.Name()}
		if hears {
			w = way{from: leader.Name(), to: other}
		}
		ways = append(ways, w)
	}
	return []string{leader.Name()}, text, ways, nil
}

// clusters are the hosts of the clusters' managers.
func (t *Target) clusters() (out []string) {
	for _, host := range t.Cluster.Network().Hosts() {
		if strings.HasPrefix(host, "crm-") || strings.HasPrefix(host, "agent-") {
			out = append(out, host)
		}
	}
	return out
}

func cutClusters(ctx context.Context, t *Target, random *rand.Rand) ([]string, string, []way, error) {
	clusters := t.clusters()
	if len(clusters) == 0 {
		return nil, "", nil, errors.New("there are no clusters")
	}
	from := names(t.Cluster.Nodes())
	if random.IntN(2) == 0 {
		leader, err := t.leader(ctx)
		if err != nil {
			return nil, "", nil, err
		}
		from = []string{leader.Name()}
	}
	return from, "cannot reach " + strings.Join(clusters, ","), apart(from, clusters), nil
}

func cutGossip(_ context.Context, t *Target, _ *rand.Rand) ([]string, string, []way, error) {
	var ways []way
	hosts := t.Cluster.Network().Hosts()
	for _, from := range hosts {
		for _, to := range hosts {
			if from != to && from != cluster.ClientHost && to != cluster.ClientHost {
				ways = append(ways, way{from, to, []int{cluster.PortGossip}})
			}
		}
	}
	return nil, "no gossip", ways, nil
}

func slowLinks(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	if random.IntN(2) == 0 {
		delay := between(random, 10*time.Millisecond, 250*time.Millisecond)
		all := names(t.Cluster.Nodes())
		var ways []way
		for _, from := range all {
			for _, to := range t.others(from) {
				ways = append(ways, way{from: from, to: to})
			}
		}
		return shaping(t, all, fmt.Sprintf("%s each way", delay), netlab.Shape{Delay: delay, Jitter: delay / 2}, ways), nil
	}
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	delay := between(random, 500*time.Millisecond, 4*time.Second)
	var ways []way
	for _, to := range t.others(leader.Name()) {
		ways = append(ways, way{from: leader.Name(), to: to})
	}
	return shaping(t, []string{leader.Name()}, fmt.Sprintf("is heard %s late", delay), netlab.Shape{Delay: delay, Jitter: delay / 4}, ways), nil
}

func slowClusters(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	clusters := t.clusters()
	if len(clusters) == 0 {
		return nil, errors.New("there are no clusters")
	}
	delay := between(random, 300*time.Millisecond, 3*time.Second)
	var ways []way
	for _, from := range names(t.Cluster.Nodes()) {
		for _, to := range clusters {
			ways = append(ways, way{from: from, to: to})
		}
	}
	return shaping(t, clusters, fmt.Sprintf("are reached %s late", delay), netlab.Shape{Delay: delay, Jitter: delay / 2}, ways), nil
}

func lossyLinks(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	loss := 0.02 + 0.28*random.Float64()
	hosts := t.Cluster.Network().Hosts()
	var ways []way
	for _, from := range hosts {
		for _, to := range hosts {
			if from != to && (strings.HasPrefix(from, "pm-") || strings.HasPrefix(to, "pm-")) {
				ways = append(ways, way{from: from, to: to})
			}
		}
	}
	return shaping(t, names(t.Cluster.Nodes()), fmt.Sprintf("%.0f %% of packets are lost", 100*loss), netlab.Shape{Loss: loss}, ways), nil
}
