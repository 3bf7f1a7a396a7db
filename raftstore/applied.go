package raftstore

import (
	"container/heap"
	"context"
	"sync"
)

// appliedIndex is the index of the last applied command and those who wait for
// a later one.
type appliedIndex struct {
	mu      sync.Mutex
	index   uint64
	waiters waiterHeap
}

// waiter is woken by closing done when the index reaches want.
type waiter struct {
	want uint64
	done chan struct{}
	pos  int // place in the heap; -1 when woken
}

// set publishes index. It never goes back: after a restore of older state the
// commands in between are those that were applied before.
func (a *appliedIndex) set(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if index <= a.index {
		return
	}
	a.index = index
	for len(a.waiters) > 0 && a.waiters[0].want <= index {
		close(heap.Pop(&a.waiters).(*waiter).done)
	}
}

func (a *appliedIndex) get() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

// wait returns nil once the index is at least want, ErrShutdown when closed is
// closed first, or ctx's error.
func (a *appliedIndex) wait(ctx context.Context, want uint64, closed <-chan struct{}) error {
	a.mu.Lock()
	if a.index >= want {
		a.mu.Unlock()
		return nil
	}
	w := &waiter{want: want, done: make(chan struct{})}
	heap.Push(&a.waiters, w)
	a.mu.Unlock()

	var err error
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closed:
		err = ErrShutdown
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.pos < 0 {
		return nil
	}
	heap.Remove(&a.waiters, w.pos)
	return err
}

// waiterHeap has the smallest wanted index first.
type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].want < h[j].want }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.pos = len(*h)
	*h = append(*h, w)
}

func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.pos = -1
	return w
}
