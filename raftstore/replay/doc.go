// Package replay applies the log of a stopped node's data directory to a fresh
// state machine, as far as one wants, and changes nothing on the disk.
//
// # Flow
//
// Run finds the newest snapshot in the directory that is not above the wanted
// index and can be read, loads it, and applies the commands that the log has
// after it, one by one.
//
// # Invariants
//
//   - The directory is opened for reading only; that of a running node is refused.
//   - A gap between snapshot and log is an error, never skipped.
//   - A log does not say which of its last entries are committed. What Run gives
//     is what the state would be if all of them were.
package replay
