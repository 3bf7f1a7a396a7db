package faultfs

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// typeName is the type of the file system in the table of mounts, after "fuse.".
const typeName = "faultfs"

// Available says why this machine cannot mount, or nil. It tries it once.
func Available() error { return available() }

var available = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "faultfs-*")
	if err != nil {
		return fmt.Errorf("faultfs: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // two empty directories
	f, err := Mount(filepath.Join(dir, "backing"), filepath.Join(dir, "mount"), Options{})
	if err != nil {
		return err
	}
	return f.Close()
})

// mount begins to serve, with nothing known of what is synced or not unless names is kept.
func (f *FS) mount() error {
	if f.names == nil {
		var err error
		if f.names, err = newNames(f.backing, f.backing+".limbo", f.space); err != nil {
			return fmt.Errorf("faultfs: %s: %w", f.backing, err)
		}
	}
	loopback, err := fs.NewLoopbackRoot(f.backing)
	if err != nil {
		return fmt.Errorf("faultfs: %s: %w", f.backing, err)
	}
	root, ok := loopback.(*fs.LoopbackNode)
	if !ok {
		return fmt.Errorf("faultfs: the library's loopback is a %T", loopback)
	}
	// Nothing but this mount changes the backing directory: the kernel may believe what
	// it has seen.
	forever := time.Hour
	f.server, err = fs.Mount(f.mountpoint, &node{LoopbackNode: root, fs: f}, &fs.Options{
		EntryTimeout:    &forever,
		AttrTimeout:     &forever,
		NullPermissions: true,
		Logger:          f.stdLog(),
		MountOptions: fuse.MountOptions{
			DirectMountStrict:        true,
			AllowOther:               true,
			Name:                     typeName,
			FsName:                   f.backing,
			DisableXAttrs:            true,
			ExplicitDataCacheControl: true,
			Logger:                   f.stdLog(),
		},
	})
	if err != nil {
		return fmt.Errorf("faultfs: mounting at %s: %w", f.mountpoint, err)
	}
	return nil
}

func (f *FS) stdLog() *log.Logger {
	return f.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug})
}

// unmount takes the mount from everybody at once: the kernel fails the calls that are in it,
// and those of processes that still have files open.
func (f *FS) unmount() error {
	if f.server == nil {
		return nil
	}
	if err := detach(f.mountpoint); err != nil {
		return err
	}
	f.server.Wait()
	f.server = nil
	return nil
}

func detach(path string) error {
	err := unix.Unmount(path, unix.MNT_FORCE|unix.MNT_DETACH)
	// It may have been unmounted by hand.
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("faultfs: unmounting %s: %w", path, err)
	}
	return nil
}

// Sweep unmounts what processes that are gone left mounted below dir (the run directory),
// at every depth, and leaves other file systems and mounts that are served alone.
func Sweep(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("faultfs: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("faultfs: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		path, ours := mountedAt(line)
		if !ours || !strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
			continue
		}
		var st syscall.Statfs_t
		if err := syscall.Statfs(path, &st); !errors.Is(err, syscall.ENOTCONN) {
			continue // somebody serves it
		}
		errs = append(errs, detach(path))
	}
	return errors.Join(errs...)
}

// mountedAt reads the mount point from a line of mountinfo, and whether this file system is
// mounted there.
func mountedAt(line string) (string, bool) {
	front, back, _ := strings.Cut(line, " - ")
	fields := strings.Fields(front)
	if len(fields) < 5 || !strings.HasPrefix(back, "fuse."+typeName+" ") {
		return "", false
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]), true
}
