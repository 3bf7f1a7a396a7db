// Package filelock is a lock between processes of one machine that cannot be left behind.
//
// It is an advisory lock (flock) on an open file, so the kernel lets go of it when its holder ends, however it ends. The file
// stays when the lock is released: removing it would let two processes hold locks on two different files of one name.
package filelock
