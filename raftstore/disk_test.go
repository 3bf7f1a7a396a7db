package raftstore

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func TestWatermark(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	w := Watermark{}.withDefaults()
	for total, want := range map[uint64]uint64{
		100 * mib: 50 * mib, gib: 256 * mib, 20 * gib: 20 * gib / 100 * 5, 2000 * gib: 4 * gib,
	} {
		if got := w.low(total); got != want {
			t.Errorf("of %d MiB %d MiB must stay free, want %d", total/mib, got/mib, want/mib)
		}
	}
	for name, bad := range map[string]Watermark{
		"percent": {Percent: 51}, "bounds": {MinBytes: 2, MaxBytes: 1},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, bad)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := Watermark{Percent: rapid.Uint64Range(1, 50).Draw(rt, "percent"), MinBytes: rapid.Uint64Range(1, gib).Draw(rt, "min")}.withDefaults()
		total := rapid.Uint64Range(gib/4, 100*gib).Draw(rt, "total")
		free := rapid.Uint64Range(0, total).Draw(rt, "free")
		if w.judge(total, total, true) {
			rt.Fatal("an empty disk is called full")
		}
		if !w.judge(0, total, false) {
			rt.Fatal("a full disk is not called full")
		}
		if w.judge(free, total, false) && !w.judge(free, total, true) {
			rt.Fatal("it is easier to recover than to fail")
		}
	})
}

func TestLatencies(t *testing.T) {
	var l latencies
	if p50, p99 := l.quantiles(); p50 != 0 || p99 != 0 {
		t.Errorf("quantiles of nothing: %v, %v", p50, p99)
	}
	for i := range 100 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	if p50, p99 := l.quantiles(); p50 != 51*time.Millisecond || p99 != 100*time.Millisecond {
		t.Errorf("quantiles: %v, %v", p50, p99)
	}
	for range 2 * len(l.took) {
		l.add(time.Millisecond)
	}
	if _, p99 := l.quantiles(); p99 != time.Millisecond {
		t.Errorf("old writes still count: %v", p99)
	}
}

func TestDiskOfANode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	c.write("k", "v")
	eventually(t, "a measurement", func() error {
		if n.Disk().Total == 0 {
			return errors.New("none")
		}
		return nil
	})
	d := n.Disk()
	if d.Path != n.dir || d.Free == 0 || d.Free > d.Total || d.WriteP50 <= 0 || d.WriteP99 < d.WriteP50 || d.LogFileBytes == 0 {
		t.Errorf("disk is %+v", d)
	}
	if _, _, err := statDisk(d.Path + "/nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

// A disk that fills up, be it the leader's or a follower's, makes the state
// read-only before writing fails, and what was refused works again by itself
// when there is space, or when the server is gone.
func TestNoSpaceMakesTheStateReadOnly(t *testing.T) {
	t.Parallel()
	const total = 100 << 30
	c := newCluster(t, 3)
	free := make(map[*testNode]*atomic.Uint64)
	for _, n := range c.nodes {
		f := &atomic.Uint64{}
		f.Store(50 << 30)
		free[n] = f
		n.configure = func(o *Options) {
			checkOften(o)
			o.DiskUsage = func(string) (uint64, uint64, error) { return f.Load(), total, nil }
		}
	}
	c.start()
	c.atLevel(2)
	leader := c.leader()
	pkg := &pmpb.Command{Op: &pmpb.Command_PutPackage{PutPackage: &pmpb.PutPackage{}}}
	readOnly := func() bool {
		t.Helper()
		res, err := leader.Apply(within(t, patience), pkg)
		if err != nil {
			t.Fatal(err)
		}
		return errors.Is(res.Err, fsm.ErrReadOnly)
	}
	for _, n := range []*testNode{leader, c.others(leader)[0]} {
		if readOnly() {
			t.Fatal("read-only without a reason")
		}
		free[n].Store(1 << 30)
		c.raised(pmpb.AlarmKey_KIND_NO_SPACE, n.ServerID())
		if !readOnly() {
			t.Error("a package is taken although a disk is nearly full")
		}
		c.write("k", n.name) // what is not new goes on
		if got := testutil.ToFloat64(n.m.diskLow); got != 1 || !n.Disk().Low {
			t.Errorf("metric = %v, disk %+v", got, n.Disk())
		}
		free[n].Store(4<<30 + 1) // above the mark, but not by enough
		eventually(t, "a measurement", func() error {
			if n.Disk().Free != 4<<30+1 {
				return errors.New("not yet")
			}
			return nil
		})
		if !readOnly() {
			t.Error("writes come and go around the mark")
		}
		free[n].Store(50 << 30)
		c.raised(pmpb.AlarmKey_KIND_NO_SPACE)
	}
	full := c.others(leader)[1]
	free[full].Store(0)
	c.raised(pmpb.AlarmKey_KIND_NO_SPACE, full.ServerID())
	full.kill()
	if err := removeFromConfiguration(leader, c.serverAt(full.raftAddr)); err != nil {
		t.Fatal(err)
	}
	c.raised(pmpb.AlarmKey_KIND_NO_SPACE)
	if readOnly() {
		t.Error("read-only because of a server that has left")
	}
}

// A clock that is far ahead does not take the log's time along.
func TestLeaderClockIsBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	fast := c.nodes[0]
	for _, n := range c.nodes {
		n.configure = checkOften
	}
	var ahead atomic.Int64
	fast.configure = func(o *Options) {
		checkOften(o)
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	c.start()
	c.lead(fast)
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		ahead.Store(int64(off))
		eventually(t, "the clock is compared", func() error {
			if got := testutil.ToFloat64(fast.m.clockOffset); math.Abs(got+off.Seconds()) > 60 {
				return fmt.Errorf("offset %v", got)
			}
			return nil
		})
		if at := fast.Now(); time.Since(at).Abs() > time.Minute {
			t.Errorf("the time for the next command is %v off", -time.Since(at))
		}
		c.write("k", off.String())
		c.expectEverywhere("k", off.String())
		for _, n := range c.nodes {
			if at := n.State().Snapshot().Meta().GetTime().AsTime(); time.Since(at).Abs() > time.Minute {
				t.Errorf("the log's time is %v off", -time.Since(at))
			}
		}
	}
	select {
	case err := <-fast.Fatal():
		t.Errorf("the watchdog went by the wall clock: %v", err)
	default:
	}
}
