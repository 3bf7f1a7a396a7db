package raftstore

import (
	"io"
	"time"
)

// longestRest bounds how long a paced writer rests at a time.
const longestRest = 100 * time.Millisecond

// pacedWriter rests after each write for as long as it took to come to it, so
// that whoever fills it uses a processor for half of the time at most. A snapshot
// of a large state takes seconds of one, which the writes of those seconds would
// have to wait for; nothing waits for the snapshot.
type pacedWriter struct {
	w io.Writer
	// hurry ends the rests, when the node stops.
	hurry <-chan struct{}
	// since is when the last rest ended.
	since time.Time
}

func newPacedWriter(w io.Writer, hurry <-chan struct{}) *pacedWriter {
	return &pacedWriter{w: w, hurry: hurry, since: time.Now()}
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	rest := time.NewTimer(min(time.Since(p.since), longestRest))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-p.hurry:
	}
	p.since = time.Now()
	return n, err
}
