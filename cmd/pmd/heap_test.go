package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"time"
)

func TestHeapLimit(t *testing.T) {
	for _, tc := range []struct {
		live uint64
		want int64
	}{
		{0, heapFloor}, {100 << 20, heapFloor}, {1000 << 20, 1564 << 20}, {math.MaxInt64, math.MaxInt64},
	} {
		if got := heapLimit(tc.live); got != tc.want {
			t.Errorf("heapLimit(%d) = %d, want %d", tc.live, got, tc.want)
		}
	}
}

func TestFollowHeap(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	follow := func(settings map[string]string) int64 {
		for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
			t.Setenv(name, settings[name])
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			followHeap(ctx)
		}()
		seen := before
		for deadline := time.Now().Add(10 * time.Second); seen == before && len(settings) == 0 && time.Now().Before(deadline); {
			seen = debug.SetMemoryLimit(-1)
		}
		stop()
		<-done
		return seen
	}
	if got := follow(nil); got < heapFloor || got == before {
		t.Errorf("the limit is %d", got)
	}
	if got := follow(map[string]string{"GOGC": "50"}); got != before {
		t.Errorf("with GOGC the limit is %d", got)
	}
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("afterwards the limit is %d", got)
	}
}
