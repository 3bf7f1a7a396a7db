package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/cluster"
)

// memberships are the nemeses of who belongs to the cluster, who leads it and where it is reached.
func memberships() []Nemesis {
	change := []Part{Members, Nodes, Disks}
	return []Nemesis{
		&kind{name: "remove-add", about: "A node is taken out of the cluster, and comes back as a new one with an empty disk.", parts: change, available: spare, choose: removing},
		&kind{name: "replace", about: "A node's disk is lost; it comes back with an empty one, under the same address.", parts: change, available: spare, choose: replacing},
		&kind{name: "grow", about: "A node joins, and is taken out again.", parts: change, available: spare, choose: growing},
		&kind{name: "transfer", about: "Leadership is handed to random nodes, again and again.", parts: []Part{Members}, available: spare, choose: transferring},
		&kind{
			name: "transfer-isolate", about: "Leadership is handed over, and the old leader is cut off from the others at once.",
			parts: []Part{Members, Network}, available: both(spare, needs(cluster.FaultCut)), choose: transferIsolate,
		},
		&kind{name: "move-one", about: "A node gets another address.", parts: []Part{Members, Nodes, Network}, available: needs(cluster.FaultMove), choose: moving(anyNode)},
		&kind{name: "move-all", about: "All nodes get other addresses at once.", parts: []Part{Members, Nodes, Network}, available: needs(cluster.FaultMove), choose: moving(allNodes)},
	}
}

// spare needs a node that can be done without.
func spare(t *Target) error {
	if len(t.Cluster.Nodes()) < 3 {
		return errors.New("needs three nodes")
	}
	return nil
}

func both(a, b func(*Target) error) func(*Target) error {
	return func(t *Target) error { return errors.Join(a(t), b(t)) }
}

// removing begins on a cluster that is whole only: with one node taken out, the rest is all that there is.
func removing(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	if err := t.whole(ctx); err != nil {
		return nil, err
	}
	node := t.some(random, 1)[0]
	asked := t.Cluster.Node(t.others(node.Name())[0])
	return &Fault{
		Nodes: []string{node.Name()}, Text: "taken out by " + asked.Name(),
		Begin: func(ctx context.Context) error {
			t.removed.Store(node.Name(), true) // also when it is not known whether it was
			ctx, cancel := context.WithTimeout(ctx, askLimit)
			defer cancel()
			if _, err := t.Cluster.Client(asked.Name()).RemoveMember(ctx, node.Name(), false, true); err != nil {
				return fmt.Errorf("remove %s: %w", node.Name(), err)
			}
			return nil
		},
		End: func(ctx context.Context) error { return t.renew(ctx, node) },
	}, nil
}

// renew starts a node with an empty disk.
func (t *Target) renew(ctx context.Context, node *cluster.Node) error {
	if err := node.Kill(); err != nil {
		return err
	}
	if err := node.Wipe(); err != nil {
		return err
	}
	t.removed.Delete(node.Name())
	return node.Start(ctx)
}

func replacing(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	if err := t.whole(ctx); err != nil {
		return nil, err
	}
	node := t.some(random, 1)[0]
	return &Fault{
		Nodes: []string{node.Name()}, Text: "disk lost",
		Begin: func(ctx context.Context) error { return t.renew(ctx, node) },
		End:   func(ctx context.Context) error { return startAll(ctx, []*cluster.Node{node}) },
	}, nil
}

// growLimit is how long a new node may take until it is ready.
const growLimit = 10 * time.Second

func growing(ctx context.Context, t *Target, _ *rand.Rand) (*Fault, error) {
	if err := t.whole(ctx); err != nil {
		return nil, err
	}
	return &Fault{
		Text: "one more",
		Begin: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, growLimit)
			defer cancel()
			node, err := t.Cluster.Add(ctx)
			if node != nil {
				t.extra.Store(node.Name(), true)
			}
			return err
		},
		End: t.shrink,
	}, nil
}

// shrink takes out the nodes that were added. While another fault keeps the rest from agreeing, it tries again.
func (t *Target) shrink(ctx context.Context) error {
	var errs []error
	t.extra.Range(func(name, _ any) bool {
		node := name.(string)
		err := system.Poll(ctx, node+" is taken out", func(ctx context.Context) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, askLimit)
			defer cancel()
			err := t.Cluster.Remove(ctx, node)
			return err == nil, err
		})
		if err == nil {
			t.extra.Delete(node)
		}
		errs = append(errs, err)
		return true
	})
	return errors.Join(errs...)
}

// transferring hands leadership on. That one is refused, or nobody leads just then, is in the nature of it.
func transferring(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	nodes := t.Cluster.Nodes()
	return &Fault{
		Nodes: names(nodes), Text: "to and fro",
		Begin: func(context.Context) error { return nil },
		During: func(ctx context.Context) error {
			for pause(ctx, between(random, 0, 800*time.Millisecond)) {
				asked, to := nodes[random.IntN(len(nodes))], nodes[random.IntN(len(nodes))]
				if err := transfer(ctx, t.Cluster.Client(asked.Name()), to.Name()); err != nil {
					t.Log.Debug("transfer", "to", to.Name(), "error", err)
				}
			}
			return nil
		},
		End: func(context.Context) error { return nil },
	}, nil
}

func transfer(ctx context.Context, asked *client.Client, to string) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, err := asked.TransferLeader(ctx, to)
	return err
}

func transferIsolate(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	to, err := t.follower(ctx, random)
	if err != nil {
		return nil, err
	}
	cut := cutting(t, nil, "", apart([]string{leader.Name()}, t.others(leader.Name())))
	return &Fault{
		Nodes: []string{leader.Name(), to.Name()}, Text: "handed over and cut off",
		Begin: func(ctx context.Context) error {
			// The cut comes as soon as the other one leads, or a moment later if it does not get to.
			err := transfer(ctx, t.Cluster.Client(leader.Name()), to.Name())
			if err != nil {
				t.Log.Debug("transfer", "to", to.Name(), "error", err)
			}
			return cut.Begin(ctx)
		},
		End: cut.End,
	}, nil
}

// moving gives nodes other addresses. All of them are down before the first one comes back, so that nobody can tell the others.
func moving(of pick) chooser {
	return func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		nodes, err := of(ctx, t, random)
		if err != nil {
			return nil, err
		}
		before := map[string]string{}
		for _, n := range nodes {
			before[n.Name()] = n.Address()
		}
		return &Fault{
			Nodes: names(nodes), Text: "from " + strings.Join(values(before), ","),
			Begin: func(ctx context.Context) error {
				if err := each(nodes, (*cluster.Node).Kill); err != nil {
					return err
				}
				return each(nodes, func(n *cluster.Node) error { return n.Move(ctx) })
			},
			End: func(ctx context.Context) error { return startAll(ctx, nodes) },
		}, nil
	}
}
