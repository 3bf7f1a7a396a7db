package netlab

import (
	"container/heap"
	"sync"
	"time"
)

// held are the packets of all pairs that wait for their time.
type held struct {
	mu    sync.Mutex
	queue queue
	// arrivals numbers them, which decides between those that are due at the same time.
	arrivals uint64
	// sooner says that a packet came that is due before all others.
	sooner chan struct{}
	quit   chan struct{}
	pool   sync.Pool
}

// waiter is a packet that waits.
type waiter struct {
	link    *link
	due     time.Time
	arrival uint64
	packet  []byte
}

func newHeld() *held {
	return &held{
		sooner: make(chan struct{}, 1), quit: make(chan struct{}),
		pool: sync.Pool{New: func() any { return &waiter{} }},
	}
}

// hold keeps a copy of a packet.
func (h *held) hold(k *link, due time.Time, packet []byte) {
	w := h.pool.Get().(*waiter)
	w.link, w.due, w.packet = k, due, append(w.packet[:0], packet...)
	h.mu.Lock()
	w.arrival = h.arrivals
	h.arrivals++
	heap.Push(&h.queue, w)
	first := h.queue[0] == w
	h.mu.Unlock()
	if first {
		select {
		case h.sooner <- struct{}{}:
		default: // it looks anyway
		}
	}
}

// run hands packets over when they are due, until close.
func (h *held) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w, wait := h.take()
		if w != nil {
			w.link.release(w.packet)
			w.link = nil
			h.pool.Put(w)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-h.sooner:
		case <-h.quit:
			return
		}
	}
}

// take gives a packet that is due, or how long to wait for one.
func (h *held) take() (*waiter, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(h.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&h.queue).(*waiter), 0
}

func (h *held) close() { close(h.quit) }

// queue is a heap, the packet that is due first on top.
type queue []*waiter

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].arrival < q[j].arrival
	}
	return q[i].due.Before(q[j].due)
}
func (q *queue) Push(x any) { *q = append(*q, x.(*waiter)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	return last
}
