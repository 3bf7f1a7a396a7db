package faultfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// cuts are what is done, and what is there after a power cut that spares nothing that was
// not synced. Paths are below the mount.
var cuts = map[string]struct {
	before func(dir string) error
	after  func(dir string) error
}{
	"synced contents and name stay": {
		before: func(d string) error {
			return errors.Join(put(d+"/a", "one"), syncFile(d+"/a"), syncDirAt(d))
		},
		after: func(d string) error { return holds(d+"/a", "one") },
	},
	"contents that were not synced are gone": {
		before: func(d string) error {
			return errors.Join(put(d+"/a", "one"), syncFile(d+"/a"), syncDirAt(d), overwrite(d+"/a", 1, "XYZ"))
		},
		after: func(d string) error { return holds(d+"/a", "one") },
	},
	"the name of a new file is not synced with the file": {
		before: func(d string) error { return errors.Join(put(d+"/a", "one"), syncFile(d+"/a")) },
		after:  func(d string) error { return gone(d + "/a") },
	},
	"a name that was synced before the contents leads to nothing": {
		before: func(d string) error { return errors.Join(put(d+"/a", "one"), syncDirAt(d)) },
		after:  func(d string) error { return holds(d+"/a", "") },
	},
	"a rename that was not synced is undone with what it replaced": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", "one"), put(d+"/tmp", "two"), syncFile(d+"/tmp"), os.Rename(d+"/tmp", d+"/a"))
		},
		after: func(d string) error { return errors.Join(holds(d+"/a", "one"), gone(d+"/tmp")) },
	},
	"a rename that was synced stays": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", "one"), put(d+"/tmp", "two"), syncFile(d+"/tmp"), os.Rename(d+"/tmp", d+"/a"), syncDirAt(d))
		},
		after: func(d string) error { return errors.Join(holds(d+"/a", "two"), gone(d+"/tmp")) },
	},
	"a removal that was not synced is undone": {
		before: func(d string) error { return errors.Join(durably(d, "a", "one"), os.Remove(d+"/a")) },
		after:  func(d string) error { return holds(d+"/a", "one") },
	},
	"a removal that was synced stays": {
		before: func(d string) error { return errors.Join(durably(d, "a", "one"), os.Remove(d+"/a"), syncDirAt(d)) },
		after:  func(d string) error { return gone(d + "/a") },
	},
	"a file that was removed and made again is the old one": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", "one"), os.Remove(d+"/a"), put(d+"/a", "two"), syncFile(d+"/a"))
		},
		after: func(d string) error { return holds(d+"/a", "one") },
	},
	"a truncation that was not synced is undone": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", strings.Repeat("x", 5000)), os.Truncate(d+"/a", 10), os.Truncate(d+"/a", 6000))
		},
		after: func(d string) error { return holds(d+"/a", strings.Repeat("x", 5000)) },
	},
	"what is in a directory whose name was not synced is gone with it": {
		before: func(d string) error {
			return errors.Join(os.Mkdir(d+"/sub", 0o700), durably(d+"/sub", "a", "one"))
		},
		after: func(d string) error { return gone(d + "/sub") },
	},
	"a directory that was removed comes back with what was in it": {
		before: func(d string) error {
			return errors.Join(os.Mkdir(d+"/sub", 0o700), durably(d+"/sub", "a", "one"), syncDirAt(d), os.RemoveAll(d+"/sub"))
		},
		after: func(d string) error { return holds(d+"/sub/a", "one") },
	},
	"a directory that was moved moves back": {
		before: func(d string) error {
			return errors.Join(os.Mkdir(d+"/sub", 0o700), durably(d+"/sub", "a", "one"), syncDirAt(d), os.Rename(d+"/sub", d+"/new"),
				durably(d+"/new", "b", "two"))
		},
		after: func(d string) error {
			return errors.Join(holds(d+"/sub/a", "one"), holds(d+"/sub/b", "two"), gone(d+"/new"))
		},
	},
	"a snapshot that is made as Raft makes it stays": {
		before: func(d string) error {
			return errors.Join(os.Mkdir(d+"/snapshots", 0o700), syncDirAt(d), os.Mkdir(d+"/snapshots/1.tmp", 0o700),
				durably(d+"/snapshots/1.tmp", "state.bin", "state"), os.Rename(d+"/snapshots/1.tmp", d+"/snapshots/1"), syncDirAt(d+"/snapshots"))
		},
		after: func(d string) error { return holds(d+"/snapshots/1/state.bin", "state") },
	},
	"a move between directories is in both or in none": {
		before: func(d string) error {
			return errors.Join(os.Mkdir(d+"/x", 0o700), os.Mkdir(d+"/y", 0o700), syncDirAt(d), durably(d+"/x", "a", "one"), durably(d+"/x", "b", "two"),
				os.Rename(d+"/x/a", d+"/y/a"), syncDirAt(d+"/y"), os.Rename(d+"/x/b", d+"/y/b"))
		},
		after: func(d string) error {
			return errors.Join(holds(d+"/y/a", "one"), gone(d+"/x/a"), holds(d+"/x/b", "two"), gone(d+"/y/b"))
		},
	},
	"a further name that was not synced is gone, the first stays": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", "one"), os.Link(d+"/a", d+"/b"))
		},
		after: func(d string) error { return errors.Join(holds(d+"/a", "one"), gone(d+"/b")) },
	},
	"names that were exchanged are exchanged back": {
		before: func(d string) error {
			return errors.Join(durably(d, "a", "one"), durably(d, "b", "two"),
				os.Rename(d+"/a", d+"/t"), os.Rename(d+"/b", d+"/a"), os.Rename(d+"/t", d+"/b"))
		},
		after: func(d string) error { return errors.Join(holds(d+"/a", "one"), holds(d+"/b", "two"), gone(d+"/t")) },
	},
}

func gone(path string) error {
	_, err := os.Lstat(path)
	return want(err, os.ErrNotExist)
}

func syncFile(path string) error { return withFile(path, os.O_RDWR, (*os.File).Sync) }

func overwrite(path string, off int64, data string) error {
	return withFile(path, os.O_RDWR, func(f *os.File) error {
		_, err := f.WriteAt([]byte(data), off)
		return err
	})
}

func durably(dir, name, data string) error {
	return errors.Join(put(filepath.Join(dir, name), data), syncFile(filepath.Join(dir, name)), syncDirAt(dir))
}

func TestPowerCut(t *testing.T) {
	for name, c := range cuts {
		t.Run(name, func(t *testing.T) {
			f := mounted(t, Options{NoBackingSync: true})
			if err := c.before(f.Mountpoint()); err != nil {
				t.Fatal(err)
			}
			if _, err := f.PowerCut(1, CutOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := c.after(f.Mountpoint()); err != nil {
				t.Error(err)
			}
			if err := c.after(f.Backing()); err != nil {
				t.Errorf("below: %v", err)
			}
			left, err := os.ReadDir(f.Backing() + ".limbo")
			if err != nil || len(left) > 0 {
				t.Errorf("limbo keeps %v, %v", left, err)
			}
		})
	}
}

// After a torn cut every sector is old or new, and over many seeds both are seen.
func TestTornCutKeepsWholeSectors(t *testing.T) {
	for _, sector := range []int{sectorSize, pageSize} {
		f := mounted(t, Options{NoBackingSync: true})
		path := f.Mountpoint() + "/a"
		seen := map[string]int{}
		for seed := range uint64(20) {
			old, fresh := strings.Repeat("o", 3*pageSize), strings.Repeat("n", 3*pageSize)
			if err := errors.Join(put(path, old), syncFile(path), syncDirAt(f.Mountpoint()), overwrite(path, 0, fresh)); err != nil {
				t.Fatal(err)
			}
			loss, err := f.PowerCut(seed, CutOptions{Torn: true, Sector: sector})
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path)
			if err != nil || len(raw) != len(old) {
				t.Fatalf("%d bytes, %v", len(raw), err)
			}
			kept := 0
			for at := 0; at < len(raw); at += sector {
				s := string(raw[at : at+sector])
				if s != old[:sector] && s != fresh[:sector] {
					t.Fatalf("a sector at %d is neither old nor new", at)
				}
				seen[s[:1]]++
				kept += strings.Count(s, "n") / sectorSize
			}
			if kept != loss.Survived {
				t.Errorf("%d sectors survived, told was %+v", kept, loss)
			}
		}
		if seen["o"] == 0 || seen["n"] == 0 {
			t.Errorf("sectors of %d bytes: seen %v", sector, seen)
		}
	}
}

func TestTheSameSeedLosesTheSame(t *testing.T) {
	lose := func() (string, Loss) {
		f := mounted(t, Options{NoBackingSync: true})
		for i := range 8 {
			if err := put(fmt.Sprintf("%s/%d", f.Mountpoint(), i), strings.Repeat(fmt.Sprint(i), 10_000)); err != nil {
				t.Fatal(err)
			}
		}
		loss, err := f.PowerCut(7, CutOptions{Torn: true})
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for i := range 8 {
			raw, _ := os.ReadFile(fmt.Sprintf("%s/%d", f.Mountpoint(), i)) // it may be gone
			fmt.Fprintf(&all, "%d:%x\n", i, raw)
		}
		return all.String(), loss
	}
	one, lossOne := lose()
	two, lossTwo := lose()
	if one != two || lossOne != lossTwo {
		t.Errorf("lost once %+v, then %+v", lossOne, lossTwo)
	}
}

func TestPowerCutWaitsForTheProcessToEnd(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	file, err := os.Create(f.Mountpoint() + "/a")
	if err != nil {
		t.Fatal(err)
	}
	f.patience = 1
	if _, err := f.PowerCut(1, CutOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("with an open file: %v", err)
	}
	if err := errors.Join(file.Close()); err != nil {
		t.Fatal(err)
	}
	f.patience = closeWait
	if _, err := f.PowerCut(1, CutOptions{}); err != nil {
		t.Error(err)
	}
}

// A sync that fails with Lose is as on Linux: the next one succeeds, and what the failed one
// should have written is gone all the same, except where it was written again.
func TestAFailedSyncLosesWhatItShouldHaveWritten(t *testing.T) {
	for _, how := range []string{"cut", "evict"} {
		f := mounted(t, Options{NoBackingSync: true})
		path := f.Mountpoint() + "/a"
		if err := durably(f.Mountpoint(), "a", strings.Repeat("o", 4*pageSize)); err != nil {
			t.Fatal(err)
		}
		err := withFile(path, os.O_RDWR, func(file *os.File) error {
			write := func(at int64, c string) error {
				_, err := file.WriteAt([]byte(strings.Repeat(c, pageSize)), at*pageSize)
				return err
			}
			f.FailSync(Failure{Err: syscall.EIO, Times: 1, Lose: true})
			err := errors.Join(write(0, "1"), write(1, "1"), want(file.Sync(), syscall.EIO))
			return errors.Join(err, write(1, "2"), write(2, "2"), file.Sync())
		})
		if err != nil {
			t.Fatal(err)
		}
		page := func(c string) string { return strings.Repeat(c, pageSize) }
		if err := holds(path, page("1")+page("2")+page("2")+page("o")); err != nil {
			t.Error("before: the process does not see what it wrote")
		}
		if how == "cut" {
			_, err = f.PowerCut(1, CutOptions{})
		} else {
			err = f.Evict()
		}
		if err := errors.Join(err, holds(path, page("o")+page("2")+page("2")+page("o"))); err != nil {
			t.Errorf("after %s: %.200v", how, err)
		}
	}
}
