package clock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// Errors.
var (
	// ErrGone says that the process has ended.
	ErrGone = errors.New("clock: the process has ended")
	// ErrTaken says that somebody has changed the vDSO of the process already.
	ErrTaken = errors.New("clock: the clock of this process is moved already")
	// ErrRestless says that the process did not come to stand outside the code that is
	// replaced.
	ErrRestless = errors.New("clock: the process does not stand still")
)

// farthest is how far a clock can be moved: times must stay behind 1970.
const farthest = 50 * 365 * 24 * time.Hour

// Clock is the wall clock of one process. Its methods may be called from any goroutine.
type Clock struct {
	mu     sync.Mutex
	target *target
	// original is what the functions began with, by address.
	original map[uint64][]byte
	// offset is where in the process the stub reads the offset.
	offset uint64
	closed bool
}

// Available says why this machine cannot move the clock of a process, or nil. Whether a
// particular process is within reach, [Open] says.
func Available() error {
	if stub == nil {
		return fmt.Errorf("clock: there is no stub for %s", runtime.GOARCH)
	}
	t, err := attach(os.Getpid())
	if err != nil {
		return err
	}
	defer t.close()
	if _, _, err = t.patch(); err == nil {
		_, err = t.threads()
	}
	return err
}

// Open takes over the wall clock of a running process, with offset 0.
func Open(pid int) (*Clock, error) {
	if stub == nil {
		return nil, Available()
	}
	t, err := attach(pid)
	if err != nil {
		return nil, err
	}
	c := &Clock{target: t}
	if err := c.install(); err != nil {
		t.close()
		return nil, err
	}
	return c, nil
}

// install leads the functions to the stub and keeps what they began with.
func (c *Clock) install() error {
	code, offset, err := c.target.patch()
	if err != nil {
		return err
	}
	c.offset, c.original = offset, map[uint64][]byte{}
	for at, bin := range code {
		if len(bin) != jumpSize {
			continue // nothing leads there without the jumps
		}
		was := make([]byte, len(bin))
		if err := c.target.read(was, at); err != nil {
			return err
		}
		if bytes.Equal(was, bin) {
			return fmt.Errorf("%w: %d", ErrTaken, c.target.pid)
		}
		c.original[at] = was
	}
	return c.target.replace(code)
}

// Set makes the wall clock of the process differ from the machine's by offset from now on.
// A drift is Set again and again. The process stands still for the moment.
func (c *Clock) Set(offset time.Duration) error {
	if offset > farthest || offset < -farthest {
		return fmt.Errorf("clock: %v is farther than %v", offset, farthest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	return c.target.replace(map[uint64][]byte{c.offset: littleEndian(offset)})
}

// Close gives the process its clock back. It is no error when the process is gone.
func (c *Clock) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	defer c.target.close()
	err := c.target.replace(c.original)
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

func littleEndian(d time.Duration) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(uint64(d) >> (8 * i)) //nolint:gosec // the bits of it
	}
	return b
}
