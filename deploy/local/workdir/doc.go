// Package workdir makes directories for state that is worth nothing once its process has ended.
//
// A directory is held by a lock as long as its process lives. Whoever makes a new one below the system's temporary directory
// first removes those whose processes were killed, so that repeated crashes do not fill the disk.
package workdir
