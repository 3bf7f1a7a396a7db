package faultfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func init() { children["map"] = func(args []string) error { return writeUnderMap(args[0]) } }

func mapInChild(path string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, path)
	cmd.Env = append(os.Environ(), childVariable+"=map")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// writeUnderMap does what bbolt does: it maps a file read-only, writes with pwrite, syncs,
// and reads through the map; then it makes the file longer and maps it anew.
func writeUnderMap(path string) error {
	return withFile(path, os.O_CREATE|os.O_RDWR, func(f *os.File) error {
		for size := int64(1 << 16); size <= 1<<18; size <<= 1 {
			if err := f.Truncate(size); err != nil {
				return err
			}
			m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
			if err != nil {
				return err
			}
			for round := range 200 {
				at, mark := int64(round*4099)%(size-8), fmt.Sprintf("%08d", int64(round)*size%99_999_999)
				_ = m[at] // so that the page is there before it is written
				if _, err := f.WriteAt([]byte(mark), at); err != nil {
					return err
				}
				if round%3 == 0 {
					if err := syscall.Fdatasync(int(f.Fd())); err != nil {
						return err
					}
				}
				if got := string(m[at : at+8]); got != mark {
					return fmt.Errorf("the map shows %q at %d, written was %q", got, at, mark)
				}
			}
			if err := syscall.Munmap(m); err != nil {
				return err
			}
		}
		return errors.Join(f.Sync())
	})
}
