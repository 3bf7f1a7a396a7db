package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// drainedPipeline always takes answers off the library's pipeline. The library
// stops reading them when its reader has seen a newer term, while its writer may
// still have an entry to send: the writer then waits for the reader's place to
// become free, for good, and with it waits whoever stops the node. There are never
// more answers than the writer has sent, which stops soon after the reader.
type drainedPipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
	done    chan struct{}
}

func newDrainedPipeline(inner raft.AppendPipeline) *drainedPipeline {
	p := &drainedPipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{}), done: make(chan struct{})}
	go p.drain()
	return p
}

// Consumer gives the answers in their order.
func (p *drainedPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends the pipeline and its goroutines.
func (p *drainedPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.AppendPipeline.Close()
	<-p.done
	return err
}

func (p *drainedPipeline) drain() {
	defer close(p.done)
	var waiting []raft.AppendFuture
	in := p.AppendPipeline.Consumer()
	for {
		var out chan<- raft.AppendFuture
		var next raft.AppendFuture
		if len(waiting) > 0 {
			out, next = p.answers, waiting[0]
		}
		select {
		case f := <-in:
			waiting = append(waiting, f)
		case out <- next:
			waiting[0] = nil
			waiting = waiting[1:]
		case <-p.closed:
			return
		}
	}
}
