package raftstore

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// DiskUsage tells how many bytes of the file system at path are free for this
// process, and how many there are.
type DiskUsage func(path string) (free, total uint64, err error)

func statDisk(path string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("raftstore: the space left at %s is not known: %w", path, err)
	}
	size := uint64(s.Bsize) //nolint:gosec // positive, and of another type on other systems
	return s.Bavail * size, s.Blocks * size, nil
}

// Watermark is how much of a file system must stay free. The state becomes
// read-only while a server has less: a log that cannot be written ends a node,
// and deleting what takes the space needs the log too.
type Watermark struct {
	// Percent of the file system. Default 5.
	Percent uint64
	// MinBytes is required however small the file system is, up to a half of it;
	// MaxBytes is enough however large. Defaults 256 MiB and 4 GiB.
	MinBytes uint64
	MaxBytes uint64
}

func (w Watermark) withDefaults() Watermark {
	if w.Percent == 0 {
		w.Percent = 5
	}
	if w.MinBytes == 0 {
		w.MinBytes = 256 << 20
	}
	if w.MaxBytes == 0 {
		w.MaxBytes = max(4<<30, w.MinBytes)
	}
	return w
}

// Validate reports a watermark that no disk can keep.
func (w Watermark) Validate() error {
	w = w.withDefaults()
	if w.Percent > 50 {
		return fmt.Errorf("raftstore: %d %% of a disk are asked to stay free, at most 50 can be", w.Percent)
	}
	if w.MinBytes > w.MaxBytes {
		return errors.New("raftstore: more bytes are asked to stay free at least than at most")
	}
	return nil
}

// low is the number of bytes below which a file system is nearly full.
func (w Watermark) low(total uint64) uint64 {
	return min(max(min(total/100*w.Percent, w.MaxBytes), w.MinBytes), total/2)
}

// judge says whether a disk is nearly full, when it was so before or was not.
// It takes a quarter more to be no longer full than not to become it, so that
// the state does not change at every write around the mark.
func (w Watermark) judge(free, total uint64, before bool) bool {
	low := w.low(total)
	if before {
		return free < low+low/4
	}
	return free < low
}

// disk is the latest measurement.
type disk struct {
	free, total atomic.Uint64
	low         atomic.Bool
}

// measureDisk looks how much space is left.
func (n *Node) measureDisk() {
	if n.dir == nil {
		return
	}
	free, total, err := n.opts.DiskUsage(n.dir.path)
	if err != nil {
		n.log.Warn("the space left on the disk is not known", "error", err)
		return
	}
	was := n.disk.low.Load()
	low := n.opts.Watermark.judge(free, total, was)
	n.disk.free.Store(free)
	n.disk.total.Store(total)
	n.disk.low.Store(low)
	n.m.diskFree.Set(float64(free))
	n.m.diskTotal.Set(float64(total))
	n.m.diskLow.Set(boolFloat(low))
	if low && !was {
		n.log.Warn("the disk is nearly full", "path", n.dir.path, "free_bytes", free, "total_bytes", total, "low_bytes", n.opts.Watermark.low(total))
	}
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// DiskStatus is what is known of the disk below a node.
type DiskStatus struct {
	// Path is the data directory, empty when nothing is kept on disk.
	Path string
	// Free and Total are bytes of its file system, of the last measurement.
	Free, Total uint64
	// Low says that less is free than the watermark asks for.
	Low bool
	// WriteP50 and WriteP99 are quantiles of the latest synchronous writes to the
	// log, that in progress included; 0 when there were none.
	WriteP50, WriteP99 time.Duration
	// LogFileBytes is the size of the log's file.
	LogFileBytes int64
}

// Disk gives what is known of this node's disk.
func (n *Node) Disk() DiskStatus {
	s := DiskStatus{Free: n.disk.free.Load(), Total: n.disk.total.Load(), Low: n.disk.low.Load()}
	s.WriteP50, s.WriteP99 = n.store.latency.quantiles()
	s.WriteP99 = max(s.WriteP99, n.store.stalled())
	if n.dir != nil {
		s.Path = n.dir.path
		if info, err := os.Stat(n.dir.logPath()); err == nil {
			s.LogFileBytes = info.Size()
		}
	}
	return s
}

// latencies keeps how long the latest writes took. Writers do not wait for one
// another or for readers, who may see a few of an earlier round.
type latencies struct {
	next atomic.Uint64
	took [512]atomic.Int64
}

func (l *latencies) add(d time.Duration) {
	i := l.next.Add(1) - 1
	l.took[i%uint64(len(l.took))].Store(int64(max(d, 1)))
}

// quantiles gives the median and the 99th percentile, 0 without any write.
func (l *latencies) quantiles() (p50, p99 time.Duration) {
	all := make([]int64, 0, len(l.took))
	for i := range l.took {
		if v := l.took[i].Load(); v != 0 {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return time.Duration(all[len(all)/2]), time.Duration(all[len(all)*99/100])
}
