package faultfs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hashicorp/go-hclog"
)

// closeWait is how long the kernel may take to close the files of a process that ended.
const closeWait = 5 * time.Second

// Errors.
var (
	// ErrBusy says that processes have files of the mount open.
	ErrBusy = errors.New("faultfs: files are still open")
	// ErrClosed says that the file system was closed.
	ErrClosed = errors.New("faultfs: closed")
)

// Options of a mount.
type Options struct {
	// Seed is where the jitter of delays comes from.
	Seed uint64
	// Size is what statfs tells as the size of the file system, in bytes. 0 is the
	// size of that below.
	Size uint64
	// NoBackingSync keeps syncs from the disk below. What a power cut of this file
	// system takes does not change, only how long a sync takes.
	NoBackingSync bool
	// Logger is told of every fault that is switched. None by default.
	Logger hclog.Logger
}

// CutOptions says what a power cut leaves of what was not synced.
type CutOptions struct {
	// Torn lets a part of it survive, drawn from the seed. Without it nothing does.
	Torn bool
	// Sector is the size of what survives as a whole: 512 (the default) or 4096.
	Sector int
}

// Loss is what a power cut took.
type Loss struct {
	// Sectors of 512 bytes were put back to their old contents; Survived kept the
	// new ones though they were not synced.
	Sectors, Survived int
	// Names are directory entries that were put back.
	Names int
}

// Counters are what happened since the mount, power cuts included.
type Counters struct {
	Syncs, Reads, Writes    uint64
	BytesRead, BytesWritten uint64
	// FailedSyncs, FailedReads and FailedWrites are errors that were injected; Full
	// is how often there was no room.
	FailedSyncs, FailedReads, FailedWrites, Full uint64
	// Delayed is how many calls were made slow.
	Delayed uint64
}

type counters struct {
	syncs, reads, writes, bytesRead, bytesWritten atomic.Uint64
	failed                                        [kinds]atomic.Uint64
	full, delayed                                 atomic.Uint64
}

// FS is a mounted file system. Its methods may be called at any time from any goroutine.
type FS struct {
	backing, mountpoint string
	opts                Options
	log                 hclog.Logger
	faults              *faults
	space               *space
	count               counters
	open                gauge
	patience            time.Duration

	// mu is held by what mounts and unmounts.
	mu     sync.Mutex
	names  *names
	server *fuse.Server
	closed bool
}

// Mount serves the directory backing at the directory mountpoint; both are created when
// they are missing. What is in backing counts as synced. A directory beside backing, its
// name with ".limbo" appended, keeps what was removed and may have to come back.
func Mount(backing, mountpoint string, opts Options) (*FS, error) {
	var err error
	if backing, err = filepath.Abs(backing); err != nil {
		return nil, fmt.Errorf("faultfs: %w", err)
	}
	if mountpoint, err = filepath.Abs(mountpoint); err != nil {
		return nil, fmt.Errorf("faultfs: %w", err)
	}
	for _, dir := range []string{backing, mountpoint} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("faultfs: %w", err)
		}
	}
	f := &FS{
		backing: backing, mountpoint: mountpoint, opts: opts, log: opts.Logger,
		faults: newFaults(opts.Seed), space: &space{size: opts.Size}, patience: closeWait,
	}
	f.open.init()
	if f.log == nil {
		f.log = hclog.NewNullLogger()
	}
	if err := f.mount(); err != nil {
		return nil, err
	}
	return f, nil
}

// Mountpoint is where the file system is seen.
func (f *FS) Mountpoint() string { return f.mountpoint }

// Backing is the directory below: read it to see the files without any fault.
func (f *FS) Backing() string { return f.backing }

// SlowSync delays fsync and fdatasync, of files and directories. Calls that wait already
// go on; so they do for the other delays.
func (f *FS) SlowSync(d Delay) { f.slow(syncing, "sync", d) }

// SlowWrite delays writes, truncations and changes of names.
func (f *FS) SlowWrite(d Delay) { f.slow(writing, "write", d) }

// SlowRead delays reads of files. What the kernel has cached is read without it.
func (f *FS) SlowRead(d Delay) { f.slow(reading, "read", d) }

func (f *FS) slow(k kind, what string, d Delay) {
	f.log.Info("delay", "of", what, "base", d.Base, "jitter", d.Jitter)
	f.faults.delay(k, d)
}

// FailSync fails fsync and fdatasync, of files and directories.
func (f *FS) FailSync(x Failure) { f.fail(syncing, "sync", x) }

// FailWrite fails writes, truncations and changes of names; nothing of them is done.
func (f *FS) FailWrite(x Failure) { f.fail(writing, "write", x) }

// FailRead fails reads of files. What the kernel has cached is read without it, and the
// kernel tries a read again whose reading ahead has failed: one failure may not be seen.
func (f *FS) FailRead(x Failure) { f.fail(reading, "read", x) }

func (f *FS) fail(k kind, what string, x Failure) {
	f.log.Info("failure", "of", what, "error", x.Err, "times", x.Times, "lose", x.Lose)
	f.faults.fail(k, x)
}

// Full leaves room for so many bytes: what needs more fails with ENOSPC, and statfs tells
// the same. Bytes are counted when a page of a file is written for the first time, as a
// disk allocates them, and given back when files are truncated or removed. Call it again
// to make more or less room.
func (f *FS) Full(bytesLeft int64) {
	f.log.Info("full", "bytes_left", bytesLeft)
	f.space.limit(bytesLeft)
}

// Roomy ends [FS.Full].
func (f *FS) Roomy() {
	f.log.Info("roomy")
	f.space.unlimit()
}

// Heal ends all faults and lets go on what waits in one.
func (f *FS) Heal() {
	for k := range kinds {
		f.faults.fail(k, Failure{})
		f.faults.delay(k, Delay{})
	}
	f.space.unlimit()
	f.log.Info("healed")
}

// Counters gives what happened so far.
func (f *FS) Counters() Counters {
	c := &f.count
	return Counters{
		Syncs: c.syncs.Load(), Reads: c.reads.Load(), Writes: c.writes.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(),
		FailedSyncs: c.failed[syncing].Load(), FailedReads: c.failed[reading].Load(),
		FailedWrites: c.failed[writing].Load(), Full: c.full.Load(), Delayed: c.delayed.Load(),
	}
}

// enter is what a call goes through before it does anything.
func (f *FS) enter(ctx context.Context, k kind) syscall.Errno {
	_, errno := f.enterKind(ctx, k)
	return errno
}

func (f *FS) enterSync(ctx context.Context) (Failure, syscall.Errno) {
	f.count.syncs.Add(1)
	return f.enterKind(ctx, syncing)
}

func (f *FS) enterKind(ctx context.Context, k kind) (Failure, syscall.Errno) {
	slow, errno := f.faults.wait(ctx, k)
	if slow {
		f.count.delayed.Add(1)
	}
	if errno != 0 {
		return Failure{}, errno
	}
	if x, fails := f.faults.next(k); fails {
		f.count.failed[k].Add(1)
		return x, x.Err
	}
	return Failure{}, 0
}

// Evict makes the file system forget what failed syncs have lost (Failure.Lose), as when
// the kernel needs its memory. It fails with [ErrBusy] while files are open.
func (f *FS) Evict() error {
	return f.remount(func() error {
		for _, o := range f.names.inOrder() {
			if o.content == nil {
				continue
			}
			if err := o.content.evict(); err != nil {
				return err
			}
		}
		return nil
	})
}

// PowerCut undoes what was not synced and mounts anew; faults that are switched on stay,
// and so does the room that [FS.Full] has left. Kill the process first: PowerCut waits a
// moment for the kernel to close its files and fails with [ErrBusy] when it does not. The
// same seed, options and writes give the same loss.
func (f *FS) PowerCut(seed uint64, opts CutOptions) (Loss, error) {
	switch opts.Sector {
	case 0:
		opts.Sector = sectorSize
	case sectorSize, pageSize:
	default:
		return Loss{}, fmt.Errorf("faultfs: sectors have %d or %d bytes, not %d", sectorSize, pageSize, opts.Sector)
	}
	var loss Loss
	err := f.remount(func() (err error) {
		rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a schedule, not a secret
		loss, err = f.names.cut(rng, opts)
		f.names = nil
		return err
	})
	if err == nil {
		f.log.Info("power cut", "seed", seed, "torn", opts.Torn, "sectors", loss.Sectors, "survived", loss.Survived, "names", loss.Names)
	}
	return loss, err
}

// remount does something while nobody can see the file system.
func (f *FS) remount(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	if !f.open.zero(f.patience) {
		return fmt.Errorf("%w: %s", ErrBusy, f.mountpoint)
	}
	if err := f.unmount(); err != nil {
		return err
	}
	return errors.Join(do(), f.mount())
}

// Close unmounts and waits for all that serves the mount; calls that hang in it fail. The
// backing directory stays, with all that was written, synced or not.
func (f *FS) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	close(f.faults.closed)
	if err := f.unmount(); err != nil {
		return err
	}
	if f.names == nil {
		return nil // a power cut has failed
	}
	for _, o := range f.names.inOrder() {
		if o.content != nil {
			_ = o.content.close() // what was written through it was written
		}
	}
	return f.names.clear()
}

// gauge counts what is open.
type gauge struct {
	mu   sync.Mutex
	n    int
	none chan struct{}
}

func (g *gauge) init() {
	g.none = make(chan struct{})
	close(g.none)
}

func (g *gauge) add(delta int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.n
	g.n += delta
	switch {
	case was == 0:
		g.none = make(chan struct{})
	case g.n == 0:
		close(g.none)
	}
}

// zero waits until nothing is open.
func (g *gauge) zero(patience time.Duration) bool {
	g.mu.Lock()
	none := g.none
	g.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-none:
		return true
	case <-timer.C:
		return false
	}
}
