package faultfs

import (
	"syscall"
	"time"
)

// Delay is how long calls take longer. The zero value is no delay.
type Delay struct {
	// Base is added to every call.
	Base time.Duration
	// Jitter is the mean of a further, exponentially distributed delay, drawn from
	// the seed of the mount and never more than ten times its mean.
	Jitter time.Duration
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
