package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/faultfs"
)

// disks are the nemeses of the nodes' file systems.
func disks() []Nemesis {
	slow, breaking := []Part{Disks}, []Part{Disks, Nodes}
	return []Nemesis{
		&kind{name: "slow-fsync", about: "Syncs take up to half a second longer, on one node, on most or on all.", parts: slow, available: faultyDisks, choose: slowSync},
		&kind{name: "failing-fsync", about: "A node's next syncs fail, and what they should have written is lost.", parts: breaking, available: faultyDisks, choose: failSync},
		&kind{name: "failing-write", about: "A node's writes fail with EIO.", parts: breaking, available: faultyDisks, choose: failWrite},
		&kind{name: "disk-full", about: "A node's disk is full, or nearly.", parts: breaking, available: faultyDisks, choose: fillDisk},
		&kind{name: "torn-write", about: "A node loses power: of what was not synced, some sectors are there and some are not.", parts: breaking, available: faultyDisks, choose: cutPower(anyNode, true)},
		&kind{name: "power-cut-majority", about: "Most nodes lose power at once.", parts: breaking, available: faultyDisks, choose: cutPower(aMajority, false)},
		&kind{name: "power-cut-all", about: "All nodes lose power at once.", parts: breaking, available: faultyDisks, choose: cutPower(allNodes, false)},
	}
}

func faultyDisks(t *Target) error { return t.NoDisks }

func slowSync(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	nodes := t.some(random, 1+random.IntN(len(t.Cluster.Nodes())))
	delay := faultfs.Delay{Base: between(random, 20*time.Millisecond, 300*time.Millisecond), Jitter: between(random, 0, 200*time.Millisecond)}
	return &Fault{
		Nodes: names(nodes), Text: fmt.Sprintf("%s and about %s more", delay.Base, delay.Jitter),
		Begin: func(context.Context) error {
			for _, n := range nodes {
				t.Disks(n.Name()).SlowSync(delay)
			}
			return nil
		},
		End: func(context.Context) error {
			for _, n := range nodes {
				t.Disks(n.Name()).SlowSync(faultfs.Delay{})
			}
			return nil
		},
	}, nil
}

// failSync loses what failed syncs should have written. The node has to end by itself: one that went on would believe that it has
// what it has not. Whether it did is for the checks to find; here it is made sure that it does not read its own cache.
func failSync(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	node, times := t.some(random, 1)[0], 1+random.IntN(3)
	disk := t.Disks(node.Name())
	return &Fault{
		Nodes: []string{node.Name()}, Text: fmt.Sprintf("%d times", times),
		Begin: func(context.Context) error {
			disk.FailSync(faultfs.Failure{Err: syscall.EIO, Times: times, Lose: true})
			return nil
		},
		End: func(ctx context.Context) error {
			disk.Heal()
			return errors.Join(node.Kill(), disk.Evict(), node.Start(ctx))
		},
	}, nil
}

func failWrite(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	node := t.some(random, 1)[0]
	disk := t.Disks(node.Name())
	return &Fault{
		Nodes: []string{node.Name()}, Text: "EIO",
		Begin: func(context.Context) error {
			disk.FailWrite(faultfs.Failure{Err: syscall.EIO})
			return nil
		},
		End: func(ctx context.Context) error {
			disk.Heal()
			return startAll(ctx, []*cluster.Node{node})
		},
	}, nil
}

func fillDisk(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	node, left := t.some(random, 1)[0], int64(random.IntN(256<<10))
	if random.IntN(2) == 0 {
		left = 0
	}
	disk := t.Disks(node.Name())
	return &Fault{
		Nodes: []string{node.Name()}, Text: fmt.Sprintf("%d KiB left", left>>10),
		Begin: func(context.Context) error {
			disk.Full(left)
			return nil
		},
		End: func(ctx context.Context) error {
			disk.Roomy()
			return startAll(ctx, []*cluster.Node{node})
		},
	}, nil
}

// cutPower kills nodes and takes from their disks what was not synced.
func cutPower(of pick, alwaysTorn bool) chooser {
	return func(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
		nodes, err := of(ctx, t, random)
		if err != nil {
			return nil, err
		}
		seed, options := random.Uint64(), faultfs.CutOptions{Torn: alwaysTorn || random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			options.Sector = 4096
		}
		text := []string{"power cut"}
		if options.Torn {
			text = append(text, "torn")
		}
		return &Fault{
			Nodes: names(nodes), Text: strings.Join(text, ", "),
			Begin: func(context.Context) error {
				if err := each(nodes, (*cluster.Node).Kill); err != nil {
					return err
				}
				return each(nodes, func(n *cluster.Node) error {
					loss, err := t.Disks(n.Name()).PowerCut(seed, options)
					t.Log.Debug("power cut", "node", n.Name(), "sectors", loss.Sectors, "survived", loss.Survived, "names", loss.Names)
					return err
				})
			},
			End: func(ctx context.Context) error { return startAll(ctx, nodes) },
		}, nil
	}
}
