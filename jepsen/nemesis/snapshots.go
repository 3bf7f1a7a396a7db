package nemesis

import (
	"context"
	"io"
	"math/rand/v2"
	"time"
)

// Restore is the name of the fault that no schedule has: a restore takes the state back, so that no history that it is part of
// can be judged as one. Package run does it after the history has ended, in a phase of its own.
const Restore = "restore"

// snapshots are the nemeses of snapshots.
func snapshots() []Nemesis {
	return []Nemesis{&kind{
		name: "snapshot-save", about: "Snapshots are taken from random nodes all the time, and each must be whole.", parts: []Part{Snapshots}, choose: saving,
	}}
}

// saving counts a file that ends early as refused, which the API allows; the client finds one whose digest is wrong.
func saving(_ context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	nodes := t.Cluster.Nodes()
	return &Fault{
		Nodes: names(nodes), Text: "saved",
		Begin: func(context.Context) error { return nil },
		During: func(ctx context.Context) error {
			saved := 0
			var last error
			for pause(ctx, between(random, 100*time.Millisecond, time.Second)) {
				node := nodes[random.IntN(len(nodes))]
				askCtx, cancel := context.WithTimeout(ctx, askLimit)
				_, err := t.Cluster.Client(node.Name()).Snapshot(askCtx, "", io.Discard)
				cancel()
				if err != nil {
					last = err
					continue
				}
				saved++
			}
			t.Log.Debug("snapshots saved", "count", saved, "last_error", last)
			return nil
		},
		End: func(context.Context) error { return nil },
	}, nil
}
