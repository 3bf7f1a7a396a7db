package raftstore

import (
	"testing"

	"github.com/hashicorp/raft"
)

// unreadPipeline hands its answers over one by one, as the library's does: who
// sends waits until the answer before was taken.
type unreadPipeline struct {
	answers chan raft.AppendFuture
	places  chan raft.AppendFuture
	closed  chan struct{}
}

func newUnreadPipeline() *unreadPipeline {
	p := &unreadPipeline{answers: make(chan raft.AppendFuture), places: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case f := <-p.places:
				select {
				case p.answers <- f:
				case <-p.closed:
					return
				}
			case <-p.closed:
				return
			}
		}
	}()
	return p
}

type numbered struct {
	raft.AppendFuture
	n uint64
}

func (p *unreadPipeline) AppendEntries(args *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := numbered{n: args.Term}
	select {
	case p.places <- f:
		return f, nil
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	}
}

func (p *unreadPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }
func (p *unreadPipeline) Close() error                       { close(p.closed); return nil }

func TestPipelineWithoutReaderDoesNotBlockTheWriter(t *testing.T) {
	p := newDrainedPipeline(newUnreadPipeline())
	const entries = 20
	for i := range uint64(entries) { // without the drain, the third one waits for good
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: i}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for want := range uint64(entries / 2) {
		if got := (<-p.Consumer()).(numbered).n; got != want {
			t.Fatalf("answer %d, want %d", got, want)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}
