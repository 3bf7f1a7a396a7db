package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/faultfs"
	"oaas.io/control-plane/jepsen/history"
)

const (
	// askLimit bounds how long a nemesis asks the cluster for something before it gives up.
	askLimit = 5 * time.Second
	// wholeLimit is how long one waits that needs all nodes in health.
	wholeLimit = 15 * time.Second
)

// Target is what is broken.
type Target struct {
	Cluster  *cluster.Cluster
	Recorder *history.Recorder
	// Disks are the file systems of the nodes' data directories by the nodes' names. There are none where faultfs is not available;
	// NoDisks says why.
	Disks   func(node string) *faultfs.FS
	NoDisks error
	// Binaries are two builds of pmd, of different versions, between which upgrades go to and fro. Fewer mean none.
	Binaries []string
	Log      hclog.Logger

	// clocks are those that were moved and not set right yet.
	clocks clocks
	// removed has the nodes, by name, that were taken out of the cluster and are not back as new ones.
	removed sync.Map
	// extra has the nodes that were added and not taken out again.
	extra sync.Map
	// voteless has the nodes, by name, whose vote was taken and not given back; asking are the
	// requests that nobody waits for.
	voteless sync.Map
	asking   sync.WaitGroup
	// build is the index of the build that the nodes run now. Only the upgrade, which overlaps nothing that restarts nodes, touches it.
	build int
}

// errNoLeader says that a fault is about the leader and there was none.
var errNoLeader = errors.New("no node leads at this moment")

// leader is the node that leads now. It waits a moment for one: elections are short.
func (t *Target) leader(ctx context.Context) (*cluster.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var leader *cluster.Node
	err := system.Poll(ctx, "a node leads", func(ctx context.Context) (bool, error) {
		name, _, err := t.Cluster.Leader(ctx)
		leader = t.Cluster.Node(name)
		return err == nil && leader != nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	return leader, nil
}

// follower is a random node that does not lead now.
func (t *Target) follower(ctx context.Context, random *rand.Rand) (*cluster.Node, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	others := t.others(leader.Name())
	if len(others) == 0 {
		return nil, errors.New("there is no other node")
	}
	return t.Cluster.Node(others[random.IntN(len(others))]), nil
}

// some are that many random nodes, in random order.
func (t *Target) some(random *rand.Rand, n int) []*cluster.Node {
	nodes := shuffled(random, t.Cluster.Nodes())
	return nodes[:min(n, len(nodes))]
}

// majority is the least number of nodes that is more than half of them.
func (t *Target) majority() int { return len(t.Cluster.Nodes())/2 + 1 }

func shuffled[T any](random *rand.Rand, of []T) []T {
	out := append([]T(nil), of...)
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func names(nodes []*cluster.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name())
	}
	return out
}

// whole waits until every node is a voter in health, and says why not if that takes long. Nothing that takes a disk away begins
// before: the copy that it takes must not be one of the last. A node that is new has no vote for its first ten seconds.
func (t *Target) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wholeLimit)
	defer cancel()
	return system.Poll(ctx, "no copy is missing", t.wholeNow)
}

// wholeNow reports whether every node is a voter in health at this moment.
func (t *Target) wholeNow(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	name, _, err := t.Cluster.Leader(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	members, err := t.Cluster.Client(name).MembersWithHealth(ctx)
	if err != nil {
		return false, err
	}
	voters := 0
	for _, m := range members {
		if m.Health == nil || !m.Health.Healthy {
			return false, fmt.Errorf("%s is not in health", m.Name)
		}
		if m.Voter {
			voters++
		}
	}
	if want := len(t.Cluster.Nodes()); voters != want {
		return false, fmt.Errorf("%d of %d nodes have a vote", voters, want)
	}
	return true, nil
}

// between is a random duration within two bounds.
func between(random *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(random.Int64N(int64(to-from)+1)).Round(time.Millisecond)
}
