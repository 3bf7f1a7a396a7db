package faultfs

import (
	"errors"

	"github.com/hashicorp/go-hclog"
)

var errTodo = errors.ErrUnsupported

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
	// NoBackingSync keeps syncs from the disk below. What a power cut of this file
	// system takes does not change, only how long a sync takes.
	NoBackingSync bool
	// Logger is told of every fault that is switched. None by default.
	Logger hclog.Logger
}

// FS is a mounted file system. Its methods may be called at any time from any goroutine.
type FS struct{}

// Available says why this machine cannot mount, or nil.
func Available() error { return errTodo }

// Mount serves the directory backing at the directory mountpoint; both are created when
// they are missing. What is in backing counts as synced. A directory beside backing, its
// name with ".limbo" appended, keeps what was removed and may have to come back.
func Mount(backing, mountpoint string, opts Options) (*FS, error) { return nil, errTodo }

// Sweep unmounts what processes that are gone left mounted below dir (the run directory),
// at every depth, and leaves other file systems and mounts that are served alone.
func Sweep(dir string) error { return errTodo }

// Mountpoint is where the file system is seen.
func (f *FS) Mountpoint() string { return "" }

// Backing is the directory below: read it to see the files without any fault.
func (f *FS) Backing() string { return "" }

// SlowSync delays fsync and fdatasync, of files and directories.
func (f *FS) SlowSync(d Delay) {}

// SlowWrite delays writes, truncations and changes of names.
func (f *FS) SlowWrite(d Delay) {}

// SlowRead delays reads of files. What the kernel has cached is read without it.
func (f *FS) SlowRead(d Delay) {}

// FailSync fails fsync and fdatasync, of files and directories.
func (f *FS) FailSync(x Failure) {}

// FailWrite fails writes, truncations and changes of names; nothing of them is done.
func (f *FS) FailWrite(x Failure) {}

// FailRead fails reads of files. What the kernel has cached is read without it.
func (f *FS) FailRead(x Failure) {}

// Full leaves room for so many bytes: what needs more fails with ENOSPC, and statfs tells
// the same. Bytes are counted when a page of a file is written for the first time, as a
// disk allocates them, and given back when files are truncated or removed. Call it again
// to make more or less room.
func (f *FS) Full(bytesLeft int64) {}

// Roomy ends [FS.Full].
func (f *FS) Roomy() {}

// Heal ends all faults and lets go on what waits in one.
func (f *FS) Heal() {}

// Counters gives what happened so far.
func (f *FS) Counters() Counters { return Counters{} }

// Evict makes the file system forget what failed syncs have lost (Failure.Lose), as when
// the kernel needs its memory. It fails with [ErrBusy] while files are open.
func (f *FS) Evict() error { return errTodo }

// PowerCut undoes what was not synced and mounts anew; faults that are switched on stay.
// Kill the process first: PowerCut waits a moment for the kernel to close its files and
// fails with [ErrBusy] when it does not. The same seed, options and writes give the same
// loss.
func (f *FS) PowerCut(seed uint64, opts CutOptions) (Loss, error) { return Loss{}, errTodo }

// Close unmounts and waits for all that serves the mount; calls that hang in it fail. The
// backing directory stays, with all that was written, synced or not.
func (f *FS) Close() error { return errTodo }
