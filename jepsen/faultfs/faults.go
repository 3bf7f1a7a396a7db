package faultfs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Delay is how long calls take longer. The zero value is no delay.
type Delay struct {
	// Base is added to every call.
	Base time.Duration
	// Jitter is the mean of a further, exponentially distributed delay, drawn from
	// the seed of the mount and never more than ten times its mean.
	Jitter time.Duration
}

func (d Delay) draw(rng *rand.Rand) time.Duration {
	if d.Jitter <= 0 {
		return d.Base
	}
	return d.Base + time.Duration(min(rng.ExpFloat64(), 10)*float64(d.Jitter))
}

// Failure is how calls fail. The zero value is none.
type Failure struct {
	// Err is what the process gets, such as syscall.EIO.
	Err syscall.Errno
	// Times is how many calls fail; 0 is all until the fault is switched off.
	Times int
	// Lose is for syncs: what the failed sync should have written is lost for good,
	// although the process reads it until [FS.Evict] or a power cut, and although a
	// later sync succeeds. That is what Linux does: pages that could not be written
	// are marked clean.
	Lose bool
}

// kind is what a call is, as far as faults tell calls apart.
type kind int

const (
	reading kind = iota
	writing
	syncing
	kinds
)

// faults are those that are switched on.
type faults struct {
	mu       sync.Mutex
	rng      *rand.Rand
	delays   [kinds]Delay
	failures [kinds]Failure
	// changed is closed when the delay of a kind is switched: what waits goes on.
	changed [kinds]chan struct{}
	// closed ends every wait: the file system is being unmounted.
	closed chan struct{}
}

func newFaults(seed uint64) *faults {
	f := &faults{rng: rand.New(rand.NewPCG(seed, 0)), closed: make(chan struct{})} //nolint:gosec // a schedule, not a secret
	for k := range f.changed {
		f.changed[k] = make(chan struct{})
	}
	return f
}

func (f *faults) delay(k kind, d Delay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delays[k] = d
	close(f.changed[k])
	f.changed[k] = make(chan struct{})
}

func (f *faults) fail(k kind, x Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[k] = x
}

// next tells whether this call fails.
func (f *faults) next(k kind) (Failure, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.failures[k]
	if x.Err == 0 {
		return Failure{}, false
	}
	if x.Times > 0 {
		if f.failures[k].Times--; f.failures[k].Times == 0 {
			f.failures[k] = Failure{}
		}
	}
	return x, true
}

// wait takes as long as a call of this kind takes longer, and reports whether it did.
// EINTR is for a caller that is being killed, EIO for one that is left behind in a file
// system that is closed.
func (f *faults) wait(ctx context.Context, k kind) (bool, syscall.Errno) {
	f.mu.Lock()
	d, changed := f.delays[k].draw(f.rng), f.changed[k]
	f.mu.Unlock()
	if d <= 0 {
		return false, 0
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	interrupted := ctx.Done()
	var look <-chan time.Time
	for {
		select {
		case <-timer.C:
			return true, 0
		case <-changed:
			return true, 0
		case <-f.closed:
			return true, syscall.EIO
		case <-interrupted:
			interrupted = nil
			ticker := time.NewTicker(10 * time.Millisecond)
			defer ticker.Stop()
			look = ticker.C
		case <-look:
		}
		if interrupted == nil && dying(ctx) {
			return true, syscall.EINTR
		}
	}
}

// dying tells whether the thread that called is being killed. Any signal interrupts a call,
// those too that a disk would let wait, such as the runtime's own; only a deadly one may
// end it.
func dying(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok || caller.Pid == 0 {
		return false
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid))
	if err != nil {
		return os.IsNotExist(err)
	}
	for _, line := range bytes.Split(raw, []byte("\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "SigPnd" && string(name) != "ShdPnd" {
			continue
		}
		pending, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		if err == nil && pending&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}
