package nemesis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"oaas.io/control-plane/jepsen/cluster"
	"oaas.io/control-plane/jepsen/history"
)

const (
	// keepEvery is how often the keeper looks, and keepAfter for how long a node must have been down before it is started.
	keepEvery = 200 * time.Millisecond
	keepAfter = time.Second
)

// keeper starts nodes that have ended by themselves, as the supervisor of a real installation does: a node whose disk refuses a
// write ends, and does so some time after the disk is in order again. While a nemesis has the nodes for itself, it keeps away.
type keeper struct {
	target *Target
	// own is held by whoever starts and stops nodes.
	own sync.Mutex
	// down since when.
	down map[string]time.Time
}

// keep looks until the context ends.
func (k *keeper) keep(ctx context.Context) {
	for pause(ctx, keepEvery) {
		if !k.own.TryLock() {
			clear(k.down)
			continue
		}
		for _, n := range k.target.Cluster.Nodes() {
			k.look(ctx, n)
		}
		k.own.Unlock()
	}
}

func (k *keeper) look(ctx context.Context, n *cluster.Node) {
	if n.Running() {
		delete(k.down, n.Name())
		return
	}
	since, known := k.down[n.Name()]
	if !known {
		k.down[n.Name()] = time.Now()
		return
	}
	if time.Since(since) < keepAfter {
		return
	}
	why := "it has ended"
	if err := n.Err(); err != nil {
		why = lastLine(err.Error())
	}
	if err := n.Start(ctx); err != nil {
		why += fmt.Sprintf("; it cannot be started: %v", err)
	}
	k.target.Recorder.Event(history.Event{Kind: history.Note, Name: "restart", Nodes: []string{n.Name()}, Text: why})
	k.target.Log.Warn("a node has ended by itself and was started again", "node", n.Name(), "why", why)
}

// holds reports whether a nemesis starts and stops nodes.
func holds(n Nemesis) bool { return slices.Contains(n.Parts(), Nodes) }

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
