package fsm_test

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"oaas.io/control-plane/proto/pmpb"
)

// Readers share rows and one view while the writer goes on. The race detector is
// the judge; without it, the test still checks that a view keeps its index.
func TestReadersAndWriter(t *testing.T) {
	r := fullReplica(t)
	shared := r.snap()
	backup := dump(t, shared)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, s := range []interface {
					Write(w io.Writer) error
					Units() []*pmpb.Unit
					Index() uint64
				}{shared, r.state.Snapshot()} {
					index := s.Index()
					if err := s.Write(io.Discard); err != nil {
						t.Errorf("write: %v", err)
					}
					if len(s.Units()) == 0 || s.Index() != index {
						t.Errorf("view at %d has %d units, then index %d", index, len(s.Units()), s.Index())
					}
				}
			}
		})
	}
	waits := r.snap().WatchAll()
	for i := range 200 {
		r.must(commit(t, "a", []string{"c1", "c2"}[i%2], "e1", "e2"))
		r.update(acked(r.about("a-e1"), "c1"))
		<-waits
		waits = r.snap().WatchAll()
	}
	if err := r.state.Restore(bytes.NewReader(backup)); err != nil {
		t.Error(err)
	}
	close(stop)
	readers.Wait()
}
