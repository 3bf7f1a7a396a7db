package pmdtest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/faultfs"
)

// With the profile for it, disks that take 300 ms for a sync (and bbolt makes two for each
// write) serve and elect.
func TestSlowSyncsSlowTheClusterAndNoMore(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "slow-disk")
	for _, n := range c.nodes {
		n.disk.SlowSync(faultfs.Delay{Base: 300 * time.Millisecond})
	}
	var names []string
	began := time.Now()
	for i := range 3 {
		names = append(names, fmt.Sprintf("slow-%d", i))
		c.created(c.nodes[i], names[i])
	}
	t.Logf("3 packages took %v", time.Since(began))
	lead, follow := c.leader()
	began = time.Now()
	lead.kill()
	c.created(follow, "elected")
	t.Logf("the next leader took %v", time.Since(began))
	c.start(lead)
	c.has(append(names, "elected")...)
	for _, n := range c.nodes {
		if !n.proc.Running() {
			t.Errorf("%s has ended: %v", n.name, n.proc.Err())
		}
		n.disk.Heal()
	}
	c.created(c.nodes[0], "healed")
}

// A node whose disk fails ends instead of acknowledging; the others go on, and it comes back.
func TestAFailingSyncEndsTheNode(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	c.created(c.nodes[0], "before")
	lead, follow := c.leader()
	lead.disk.FailSync(faultfs.Failure{Err: syscall.EIO, Lose: true})
	c.created(follow, "during")
	c.ended(lead)
	if log := logTail(lead); !strings.Contains(log, "input/output error") {
		t.Errorf("its log does not tell why: %s", log)
	}
	lead.disk.Heal()
	if err := lead.disk.Evict(); err != nil {
		t.Fatal(err)
	}
	c.start(lead)
	c.ready()
	c.created(lead, "after")
	c.has("before", "during", "after")
}

// What one node alone has acknowledged is there after its disk failed and the power was cut.
func TestANodeAloneAcknowledgesNothingThatIsNotSynced(t *testing.T) {
	t.Parallel()
	c := started(t, 1, "fast")
	n := c.nodes[0]
	var names []string
	for i := range 5 {
		names = append(names, fmt.Sprintf("before-%d", i))
		c.created(n, names[i])
	}
	n.disk.FailSync(faultfs.Failure{Err: syscall.EIO, Times: 1, Lose: true})
	for i := 0; n.proc.Running(); i++ {
		name := fmt.Sprintf("during-%d", i)
		if _, ok := c.create(n, name); ok {
			names = append(names, name)
		}
	}
	c.powerCut(1)
	c.has(names...)
}

func TestAFullDiskMakesTheClusterReadOnly(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	c.created(c.nodes[0], "before")
	_, follow := c.leader()
	follow.disk.Full(100 << 20)
	var refusal answer
	c.eventually("writes are refused", func() bool {
		a, ok := c.create(c.nodes[0], fmt.Sprintf("full-%d", time.Now().UnixNano()))
		refusal = a
		return !ok && a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "read-only")
	})
	t.Logf("refused with %s", refusal.body)
	c.has("before")
	follow.disk.Roomy()
	c.created(c.nodes[0], "after")
	c.has("before", "after")
}

// A disk that is full at once ends its node, which comes back when there is room.
func TestADiskWithoutASingleByteEndsTheNode(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	c.created(c.nodes[0], "before")
	lead, follow := c.leader()
	lead.disk.Full(0)
	names := []string{"before"}
	for i := 0; lead.proc.Running() && i < 2000; i++ {
		name := fmt.Sprintf("during-%d", i)
		if a, ok := c.create(follow, name); ok {
			names = append(names, name)
		} else if strings.Contains(a.body, "read-only") {
			break // the alarm was faster than the log's growth
		}
	}
	lead.disk.Roomy()
	if !lead.proc.Running() {
		c.start(lead)
	}
	c.ready()
	c.created(lead, "after")
	c.has(append(names, "after")...)
}

// All nodes lose their power at once while packages are created.
func TestAPowerCutOfAllLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	c := started(t, 3, "fast")
	var names []string
	for round := range uint64(3) {
		acknowledged, stop := c.createAll(fmt.Sprintf("cut-%d", round))
		c.eventually("some packages are there", func() bool { return acknowledged() > 100 })
		c.powerCut(round)
		names = append(names, stop()...)
		c.has(names...)
	}
	t.Logf("%d packages acknowledged", len(names))
}

// createAll creates packages at all nodes until it is stopped, which gives those that were
// acknowledged.
func (c *cluster) createAll(prefix string) (count func() int, stop func() []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var acknowledged []string
	done := make(chan struct{})
	for i, n := range c.nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := 0; ; k++ {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprintf("%s-%d-%d", prefix, i, k)
				if _, ok := c.create(n, name); ok {
					mu.Lock()
					acknowledged = append(acknowledged, name)
					mu.Unlock()
				}
			}
		}()
	}
	count = func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	return count, func() []string { close(done); wg.Wait(); return acknowledged }
}
