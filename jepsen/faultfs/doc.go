// Package faultfs is a file system for the data directory of a process that is to be
// broken on purpose: it is slow, full or broken when it is told to be, and after a power
// cut it has forgotten what was not synced.
//
// # Flow
//
// [Mount] serves a backing directory through FUSE. Everything is written through to the
// backing directory at once, so the running process sees what any other file system would
// show it, mmap included. Beside that the file system remembers what a disk would still
// hold: for every sector written since the last fsync of its file the contents before, for
// every directory entry changed since the last fsync of its directory the entry before.
// A sync forgets these; [FS.PowerCut] puts them back.
//
// # What a power cut may do
//
//   - What was synced is there: contents by an fsync or fdatasync of the file, names by an
//     fsync of the directory. An fsync of a new file does not make its name durable: several
//     file systems do that, POSIX does not promise it.
//   - What was not synced is gone, or with [CutOptions.Torn] a part of it survives: any set
//     of sectors, any length between the old and the new, and of the changes of names a
//     beginning, in their order and each as a whole, as a journal replays them.
//   - Nothing is there that was never written. A part of a file that came to be only because
//     the length survived reads as zeros.
//
// Modes, owners and times are not journalled.
//
// # Faults
//
// They are switched at run time and hold until they are switched again; [FS.Heal] ends all.
// They belong to one mount: every process of a cluster has its own.
//
// # Invariants
//
//   - A mount does not outlive the process that serves it: the kernel ends the connection
//     with it. The empty mount point that remains is taken away by [Sweep].
//   - [FS.Close] returns even when processes hang in the file system: their calls fail.
//   - A process that hangs in a slow call can be killed; a signal that does not kill it does
//     not end the call, as on a disk.
//
// The process that serves a mount must not map its files, nor start a process whose working
// directory or program is in it: page faults and the steps between fork and exec stop the
// very runtime that has to answer them. Read the backing directory instead, and let what is
// started change its directory itself.
package faultfs
