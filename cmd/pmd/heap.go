package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapFloor is memory that a node may always use: below it the collector works
	// as it does by default.
	heapFloor = 512 << 20
	// heapOverhead is what the runtime needs beside the heap.
	heapOverhead = 64 << 20
	heapLook     = time.Second
)

// followHeap keeps the memory of a large state small until ctx ends. By default
// garbage may pile up until it is as much as what is in use, so that a state of
// 1 GiB takes two. The limit on memory follows what is in use instead, so that it
// can never be too low for it, with half as much again for garbage. The collector then works
// more often. With a fifth instead it took three quarters of the processor while a
// state of 1 GiB was written to, and writes waited for it.
// Whoever sets GOGC or GOMEMLIMIT decides for himself.
func followHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	ticker := time.NewTicker(heapLook)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		metrics.Read(sample)
		debug.SetMemoryLimit(heapLimit(sample[0].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// heapLimit is the limit for a heap of which so many bytes are in use.
func heapLimit(live uint64) int64 {
	limit := max(live+live/2+heapOverhead, heapFloor)
	return int64(min(limit, math.MaxInt64)) //nolint:gosec // bounded on this line
}
