package netlab

import "golang.org/x/sys/unix"

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

// mount puts an empty file system over a directory.
func mount(dir string) error { return unix.Mount("netlab-test", dir, "tmpfs", 0, "size=1m") }

func unmount(dir string) error { return unix.Unmount(dir, 0) }
