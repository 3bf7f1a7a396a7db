package tunnel

import (
	"errors"
	"sync"
)

// errStopped: whoever would own what was asked for is about to end.
var errStopped = errors.New("tunnel: stopped")

// crew are the goroutines of an owner, who waits for all of them. Unlike a WaitGroup it
// can be asked for more while somebody waits, and then declines.
type crew struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// start runs f unless the owner is waiting already.
func (c *crew) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// join waits for all, and lets none begin from now on.
func (c *crew) join() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}
