package faultfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSlowCallsTakeLonger(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	const delay = 50 * time.Millisecond
	path := f.Mountpoint() + "/a"
	if err := put(path, "x"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		slow func(Delay)
		d    Delay
		do   func() error
	}{
		{"sync", f.SlowSync, Delay{Base: delay}, func() error { return syncFile(path) }},
		{"sync of a directory", f.SlowSync, Delay{Base: delay}, func() error { return syncDirAt(f.Mountpoint()) }},
		{"write", f.SlowWrite, Delay{Base: delay}, func() error { return overwrite(path, 0, "y") }},
		{"name", f.SlowWrite, Delay{Base: delay}, func() error { return os.Rename(path, path+"2") }},
		{"truncate", f.SlowWrite, Delay{Base: delay}, func() error { return os.Truncate(path+"2", 1) }},
		{"read", f.SlowRead, Delay{Base: delay}, func() error { return holds(path+"2", "y") }},
		{"jitter and a base", f.SlowSync, Delay{Base: delay, Jitter: time.Millisecond}, func() error { return syncFile(path + "2") }},
	} {
		c.slow(c.d)
		began := time.Now()
		err := c.do()
		took := time.Since(began)
		f.Heal()
		if err != nil || took < delay {
			t.Errorf("%s took %v, %v", c.name, took, err)
		}
	}
	if f.Counters().Delayed < 7 {
		t.Errorf("counted: %+v", f.Counters())
	}
}

func TestHealLetsGoWhatWaits(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	if err := put(f.Mountpoint()+"/a", "x"); err != nil {
		t.Fatal(err)
	}
	f.SlowSync(Delay{Base: time.Hour})
	done := make(chan error)
	go func() { done <- syncFile(f.Mountpoint() + "/a") }()
	eventually(t, func() bool { return f.Counters().Syncs > 0 })
	f.Heal()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFailuresAreCounted(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	path := f.Mountpoint() + "/a"
	if err := put(path, "x"); err != nil {
		t.Fatal(err)
	}
	f.FailSync(Failure{Err: syscall.EIO, Times: 2})
	for i, target := range []error{syscall.EIO, syscall.EIO, nil} {
		if err := syncFile(path); !errors.Is(err, target) {
			t.Errorf("sync %d: %v, want %v", i, err, target)
		}
	}
	f.FailSync(Failure{Err: syscall.EIO})
	for range 5 {
		if err := syncDirAt(f.Mountpoint()); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync of a directory: %v", err)
		}
	}
	f.FailWrite(Failure{Err: syscall.EROFS})
	if err := errors.Join(
		want(overwrite(path, 0, "y"), syscall.EROFS), want(os.Remove(path), syscall.EROFS), want(os.Mkdir(path+"d", 0o700), syscall.EROFS),
		want(os.Truncate(path, 0), syscall.EROFS), want(put(path+"2", ""), syscall.EROFS),
	); err != nil {
		t.Error(err)
	}
	f.FailRead(Failure{Err: syscall.EIO})
	if err := want(holds(path, "x"), syscall.EIO); err != nil {
		t.Errorf("read: %v", err)
	}
	f.Heal()
	if err := errors.Join(syncFile(path), holds(path, "x"), put(path, "z")); err != nil {
		t.Errorf("healed: %v", err)
	}
	c := f.Counters()
	if c.FailedSyncs != 7 || c.FailedWrites != 5 || c.FailedReads == 0 {
		t.Errorf("counted: %+v", c)
	}
}

// A sync that fails without Lose leaves what it should have written to the next one.
func TestAFailedSyncLeavesTheRestToTheNext(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	path := f.Mountpoint() + "/a"
	if err := durably(f.Mountpoint(), "a", "old"); err != nil {
		t.Fatal(err)
	}
	f.FailSync(Failure{Err: syscall.EIO, Times: 1})
	if err := errors.Join(overwrite(path, 0, "new"), want(syncFile(path), syscall.EIO), syncFile(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PowerCut(1, CutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := holds(path, "new"); err != nil {
		t.Error(err)
	}
}

func TestFull(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true, Size: 1 << 30})
	dir := f.Mountpoint()
	if err := put(dir+"/a", strings.Repeat("x", 8*pageSize)); err != nil {
		t.Fatal(err)
	}
	f.Full(4 * pageSize)
	if free, total := statfs(t, dir); free != 4*pageSize || total != 1<<30 {
		t.Errorf("statfs tells %d of %d bytes", free, total)
	}
	// What is allocated can be written again; a longer file is not allocated yet.
	if err := errors.Join(overwrite(dir+"/a", 0, strings.Repeat("y", 8*pageSize)), os.Truncate(dir+"/a", 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := put(dir+"/b", strings.Repeat("x", 6*pageSize)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("six pages where four are left: %v", err)
	}
	if info, err := os.Stat(dir + "/b"); err != nil || info.Size() != 4*pageSize {
		t.Errorf("what there was room for: %v, %v", info.Size(), err)
	}
	if err := errors.Join(want(put(dir+"/c", "x"), syscall.ENOSPC), want(overwrite(dir+"/a", 9*pageSize, "x"), syscall.ENOSPC)); err != nil {
		t.Error(err)
	}
	if free, _ := statfs(t, dir); free != 0 {
		t.Errorf("%d bytes are free", free)
	}
	if err := errors.Join(os.Remove(dir+"/b"), put(dir+"/c", "x")); err != nil {
		t.Errorf("with room: %v", err)
	}
	if free, _ := statfs(t, dir); free != 3*pageSize {
		t.Errorf("%d bytes are free", free)
	}
	f.Roomy()
	if err := put(dir+"/d", strings.Repeat("x", 100*pageSize)); err != nil {
		t.Error(err)
	}
	if f.Counters().Full == 0 {
		t.Error("not counted")
	}
}

func statfs(t *testing.T, path string) (free, total uint64) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize)
}

// A process that hangs in the file system can be killed, although a signal that it lives on
// after does not end its call.
func TestAHangingProcessCanBeKilled(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	f.SlowSync(Delay{Base: time.Hour})
	cmd := hang(t, f)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process has ended by itself")
	}
	if _, err := f.PowerCut(1, CutOptions{}); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

func TestCloseReturnsWhileAProcessHangs(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	f.SlowSync(Delay{Base: time.Hour})
	cmd := hang(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its call fails, so it ends
	if err := f.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := f.PowerCut(1, CutOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a power cut after it: %v", err)
	}
	if left, err := os.ReadDir(f.Mountpoint()); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %v, %v", left, err)
	}
}

// hang starts a process that hangs in a sync.
func hang(t *testing.T, f *FS) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `cd "$0" && echo x > a; exec sync a`, f.Mountpoint())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, func() bool { return f.Counters().Syncs > 0 })
	return cmd
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatal("it does not come to that")
		case <-tick.C:
		}
	}
}

func init() {
	children["serve"] = func(args []string) error {
		_, err := Mount(args[0], args[1], Options{NoBackingSync: true})
		if err != nil {
			return err
		}
		_, err = os.Stdout.WriteString("mounted\n")
		if err != nil {
			return err
		}
		_, err = os.Stdin.Read(make([]byte, 1))
		return err
	}
}

func TestSweepTakesWhatIsLeftOver(t *testing.T) {
	live := mounted(t, Options{NoBackingSync: true})
	dir := t.TempDir()
	mount := filepath.Join(dir, "a b", "mount")
	c := startChild(t, "serve", filepath.Join(dir, "backing"), mount)
	if !c.lines.Scan() {
		t.Fatal(c.wait())
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if err := put(mount+"/x", "1"); err != nil {
		t.Errorf("a mount that is served was swept: %v", err)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // killed
	if _, err := os.Stat(mount); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("nobody serves it: %v", err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(mount); err != nil || len(left) > 0 {
		t.Errorf("after the sweep: %v, %v", left, err)
	}
	if err := put(live.Mountpoint()+"/x", "1"); err != nil {
		t.Errorf("another mount: %v", err)
	}
}
