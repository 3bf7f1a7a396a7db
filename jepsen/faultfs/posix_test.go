package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// want gives an error unless got is target.
func want(got, target error) error {
	if !errors.Is(got, target) {
		return &unexpectedError{got, target}
	}
	return nil
}

type unexpectedError struct{ got, want error }

func (e *unexpectedError) Error() string { return fmt.Sprintf("got %v, want %v", e.got, e.want) }

func holds(path, data string) error {
	raw, err := os.ReadFile(path)
	if err == nil && string(raw) != data {
		err = fmt.Errorf("%s holds %q, want %q", path, raw, data)
	}
	return err
}

func put(path, data string) error { return os.WriteFile(path, []byte(data), 0o600) }

func withFile(path string, flags int, do func(*os.File) error) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

func syncDirAt(path string) error {
	return withFile(path, os.O_RDONLY, (*os.File).Sync)
}

func TestPosix(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	for name, check := range posix {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(f.Mountpoint(), fmt.Sprintf("%x", name))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := check(dir, filepath.Join(dir, "a")); err != nil {
				t.Error(err)
			}
		})
	}
}

var posix = map[string]func(dir, a string) error{
	"what was written is read": func(_, a string) error {
		return errors.Join(put(a, "one"), holds(a, "one"))
	},
	"O_EXCL refuses a file that is there": func(_, a string) error {
		_, err := os.OpenFile(a, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		_, err = os.OpenFile(a, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		return want(err, os.ErrExist)
	},
	"O_TRUNC empties": func(_, a string) error {
		return errors.Join(put(a, "long contents"), put(a, "x"), holds(a, "x"))
	},
	"O_APPEND writes at the end": func(_, a string) error {
		err := errors.Join(put(a, "one"), withFile(a, os.O_APPEND|os.O_WRONLY, func(f *os.File) error {
			_, err := f.WriteString("two")
			return err
		}))
		return errors.Join(err, holds(a, "onetwo"))
	},
	"a hole reads as zeros": func(_, a string) error {
		err := withFile(a, os.O_CREATE|os.O_RDWR, func(f *os.File) error {
			_, err := f.WriteAt([]byte("x"), 10_000)
			return err
		})
		return errors.Join(err, holds(a, string(make([]byte, 10_000))+"x"))
	},
	"truncate shortens and lengthens with zeros": func(_, a string) error {
		return errors.Join(put(a, "abcdef"), os.Truncate(a, 3), os.Truncate(a, 5), holds(a, "abc\x00\x00"))
	},
	"a rename replaces, and who had it open keeps it": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		if err := errors.Join(put(a, "old"), put(b, "new")); err != nil {
			return err
		}
		return withFile(a, os.O_RDONLY, func(f *os.File) error {
			if err := os.Rename(b, a); err != nil {
				return err
			}
			raw, err := io.ReadAll(f)
			if err == nil && string(raw) != "old" {
				err = fmt.Errorf("the open file reads %q", raw)
			}
			return errors.Join(err, holds(a, "new"))
		})
	},
	"RENAME_NOREPLACE does not replace": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		if err := errors.Join(put(a, "old"), put(b, "new")); err != nil {
			return err
		}
		return want(unix.Renameat2(unix.AT_FDCWD, b, unix.AT_FDCWD, a, unix.RENAME_NOREPLACE), syscall.EEXIST)
	},
	"an unlinked file lives until it is closed": func(_, a string) error {
		return withFile(a, os.O_CREATE|os.O_RDWR, func(f *os.File) error {
			if err := os.Remove(a); err != nil {
				return err
			}
			if _, err := f.WriteString("x"); err != nil {
				return err
			}
			info, err := f.Stat()
			if err == nil && info.Size() != 1 {
				err = fmt.Errorf("it has %d bytes", info.Size())
			}
			_, gone := os.Stat(a)
			return errors.Join(err, want(gone, os.ErrNotExist), f.Sync())
		})
	},
	"a name that was removed can be taken again": func(_, a string) error {
		return errors.Join(put(a, "one"), os.Remove(a), put(a, "two"), holds(a, "two"))
	},
	"hard links are one file": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		return errors.Join(put(a, "one"), os.Link(a, b), put(b, "two"), holds(a, "two"), os.Remove(a), holds(b, "two"))
	},
	"symbolic links are followed": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		return errors.Join(put(a, "one"), os.Symlink("a", b), holds(b, "one"))
	},
	"a directory lists what is in it": func(dir, a string) error {
		err := errors.Join(put(a, ""), os.Mkdir(filepath.Join(dir, "sub"), 0o700), put(filepath.Join(dir, "z"), ""), os.Remove(filepath.Join(dir, "z")))
		entries, rerr := os.ReadDir(dir)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, []string{"a", "sub"}) {
			err = errors.Join(err, fmt.Errorf("it lists %q", names))
		}
		return errors.Join(err, rerr)
	},
	"a directory that is not empty stays": func(_, a string) error {
		err := errors.Join(os.Mkdir(a, 0o700), put(filepath.Join(a, "x"), "1"))
		return errors.Join(err, want(syscall.Rmdir(a), syscall.ENOTEMPTY), holds(filepath.Join(a, "x"), "1"), os.RemoveAll(a))
	},
	"a directory is moved with what is in it": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		err := errors.Join(os.Mkdir(a, 0o700), put(filepath.Join(a, "x"), "1"), os.Mkdir(b, 0o700), syscall.Rename(a, b))
		return errors.Join(err, holds(filepath.Join(b, "x"), "1"), put(filepath.Join(b, "y"), "2"), syncDirAt(b), os.Remove(filepath.Join(b, "x")))
	},
	"a lock excludes": func(_, a string) error {
		return withFile(a, os.O_CREATE|os.O_RDWR, func(f *os.File) error {
			return withFile(a, os.O_RDWR, func(g *os.File) error {
				err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
				return errors.Join(err, want(syscall.Flock(int(g.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK))
			})
		})
	},
	"space is allocated": func(_, a string) error {
		err := withFile(a, os.O_CREATE|os.O_RDWR, func(f *os.File) error {
			return syscall.Fallocate(int(f.Fd()), 0, 0, 10_000)
		})
		return errors.Join(err, holds(a, string(make([]byte, 10_000))))
	},
	"modes and times are kept": func(_, a string) error {
		err := errors.Join(put(a, ""), os.Chmod(a, 0o640))
		info, serr := os.Stat(a)
		if serr == nil && info.Mode().Perm() != 0o640 {
			err = errors.Join(err, fmt.Errorf("the mode is %v", info.Mode()))
		}
		return errors.Join(err, serr)
	},
	"O_SYNC writes are synced": func(_, a string) error {
		return errors.Join(withFile(a, os.O_CREATE|os.O_RDWR|os.O_SYNC, func(f *os.File) error {
			_, err := f.WriteString("x")
			return err
		}), holds(a, "x"))
	},
	"large files": func(_, a string) error {
		data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
		return errors.Join(put(a, string(data)), holds(a, string(data)))
	},
	"mapped files show what is written": func(_, a string) error {
		// In a process of its own: see the comment of the package.
		return mapInChild(a)
	},
	"copying goes through": func(dir, a string) error {
		b := filepath.Join(dir, "b")
		if err := put(a, "contents"); err != nil {
			return err
		}
		err := withFile(a, os.O_RDONLY, func(from *os.File) error {
			return withFile(b, os.O_CREATE|os.O_WRONLY, func(to *os.File) error {
				_, err := io.Copy(to, from)
				return err
			})
		})
		return errors.Join(err, holds(b, "contents"))
	},
}
