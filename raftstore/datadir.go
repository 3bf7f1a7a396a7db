package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

const (
	serverIDFile = "server-id"
	lockFile     = "lock"
	raftDir      = "raft"
	logFile      = "log.db"
)

func newUUID() string { return uuid.NewString() }

// dataDir is an exclusively locked data directory.
type dataDir struct {
	path     string
	serverID string
	lock     *os.File
}

// openDataDir creates the directory when it is missing, locks it and reads or
// mints the server id. An id is minted only together with an empty log: next to
// an existing log it would let the disk vote under two names.
func openDataDir(path string) (_ *dataDir, err error) {
	if err := os.MkdirAll(filepath.Join(path, raftDir), 0o700); err != nil {
		return nil, fmt.Errorf("raftstore: the data directory %s cannot be created or written: %w", path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock}
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	raw, err := os.ReadFile(filepath.Join(path, serverIDFile))
	switch {
	case err == nil:
		d.serverID = strings.TrimSpace(string(raw))
		if _, perr := uuid.Parse(d.serverID); perr != nil {
			return nil, fmt.Errorf("raftstore: %s holds %q, which is not a UUID; restore the file, or remove the whole data directory to come back as a new server",
				filepath.Join(path, serverIDFile), d.serverID)
		}
		return d, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("raftstore: reading the server id: %w", err)
	}
	if _, serr := os.Stat(d.logPath()); serr == nil {
		return nil, fmt.Errorf("%w: %s has a log but %s is missing; restore the file, or remove the whole data directory to come back as a new server",
			ErrServerIDMismatch, path, serverIDFile)
	}
	d.serverID = newUUID()
	if err := writeDurably(filepath.Join(path, serverIDFile), []byte(d.serverID+"\n")); err != nil {
		return nil, fmt.Errorf("raftstore: the data directory %s is not writable: %w", path, err)
	}
	return d, nil
}

func (d *dataDir) logPath() string  { return filepath.Join(d.path, raftDir, logFile) }
func (d *dataDir) raftPath() string { return filepath.Join(d.path, raftDir) }

// close releases the lock. The lock file stays: removing it would race with the
// next process.
func (d *dataDir) close() error { return d.lock.Close() }

func lockDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raftstore: the data directory %s is not writable: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, fmt.Errorf("raftstore: locking %s: %w", name, err)
	}
	return f, nil
}

// writeDurably puts data under name so that after a power cut there is either
// the whole file or none.
func writeDurably(name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if serr := f.Sync(); err == nil {
		err = serr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
