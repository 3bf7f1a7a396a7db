package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

const (
	serverIDFile  = "server-id"
	clusterIDFile = "cluster-id"
	lockFile      = "lock"
	raftDir       = "raft"
	logFile       = "log.db"
)

func newUUID() string { return uuid.NewString() }

// keyServerID is where the log remembers whose it is.
var keyServerID = []byte("oaas/server-id")

// dataDir is an exclusively locked data directory.
type dataDir struct {
	path string
	// noted is the id in the server-id file, empty when there is none.
	noted string
	// clusterID is what the cluster-id file held at the start. A directory that
	// once belonged to a cluster founds no other one, even if its log is lost.
	clusterID string
	lock      *os.File
}

// openDataDir creates the directory when it is missing, locks it and reads the
// files that say whose it is.
func openDataDir(path string) (*dataDir, error) {
	if err := makeDurably(filepath.Join(path, raftDir)); err != nil {
		return nil, fmt.Errorf("raftstore: the data directory %s cannot be created or written: %w", path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock}
	if d.noted, err = d.readID(serverIDFile); err == nil {
		d.clusterID, err = d.readID(clusterIDFile)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// readID reads a file that holds one id; no file gives an empty id.
func (d *dataDir) readID(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("raftstore: %w", err)
	}
	id := strings.TrimSpace(string(raw))
	if _, err := uuid.Parse(id); err != nil {
		return "", fmt.Errorf("raftstore: %s holds %.64q, which is not a UUID; remove the file to take the id from the log", filepath.Join(d.path, name), id)
	}
	return id, nil
}

func (d *dataDir) noteCluster(id string) error {
	if err := writeDurably(filepath.Join(d.path, clusterIDFile), []byte(id+"\n")); err != nil {
		return fmt.Errorf("raftstore: the data directory %s is not writable: %w", d.path, err)
	}
	return nil
}

// identify gives the server id, which belongs to the log: what must never
// happen is that a log is lost and its server votes again under the same id. An
// id is therefore good only together with the log that knows it. When the log
// does not, and is empty, the server is a new one.
func (d *dataDir) identify(store logStore, log hclog.Logger) (string, error) {
	have, err := store.Get(keyServerID)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return "", fmt.Errorf("raftstore: reading the log: %w", err)
	}
	id := string(have)
	switch {
	case id != "" && d.noted == id:
	case id != "" && d.noted == "":
		log.Warn("the server-id file was missing and is restored from the log", "server_id", id)
		err = d.note(id)
	case id != "":
		err = fmt.Errorf("%w: the log in %s is that of %s, the %s file says %s", ErrServerIDMismatch, d.path, id, serverIDFile, d.noted)
	default:
		id, err = d.mint(store, log)
	}
	if err != nil {
		return "", err
	}
	// Written at every start: it proves that the disk takes writes before the
	// library, which cannot report that everywhere, needs it to.
	if err := store.Set(keyServerID, []byte(id)); err != nil {
		return "", fmt.Errorf("raftstore: the log in %s is not writable: %w", d.path, err)
	}
	return id, syncDir(d.raftPath())
}

// mint names a server whose log is new.
func (d *dataDir) mint(store logStore, log hclog.Logger) (string, error) {
	last, err := store.LastIndex()
	if err != nil {
		return "", fmt.Errorf("raftstore: reading the log: %w", err)
	}
	if last != 0 {
		return "", fmt.Errorf("%w: the log in %s was not written by this program", ErrServerIDMismatch, d.path)
	}
	if old, _ := os.ReadDir(filepath.Join(d.raftPath(), "snapshots")); len(old) > 0 {
		return "", fmt.Errorf("raftstore: %s has snapshots but no log; put the log back, or remove the whole data directory to come back as a new server", d.path)
	}
	if d.noted != "" {
		log.Warn("the log of this server is gone, so it is a new server now", "old_server_id", d.noted)
	}
	id := newUUID()
	return id, d.note(id)
}

func (d *dataDir) note(id string) error {
	if err := writeDurably(filepath.Join(d.path, serverIDFile), []byte(id+"\n")); err != nil {
		return fmt.Errorf("raftstore: the data directory %s is not writable: %w", d.path, err)
	}
	return nil
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

// makeDurably creates a directory, and those above it that are missing, so that
// none of them is gone after a power cut: however well a file is synced, it is
// lost with the name of a directory above it. A start that was interrupted may
// have made them and not got as far as this, so the names of the directory and of
// that above it are synced again.
func makeDurably(path string) error {
	parents, err := missingParents(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, dir := range parents {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	above := filepath.Dir(path)
	if err := syncDir(above); err != nil {
		return err
	}
	// What holds the data directory need not be readable for this process, when
	// somebody else has made the data directory in it.
	if err := syncDir(filepath.Dir(above)); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// missingParents gives the directories in which path, and those above it, are
// missing.
func missingParents(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var parents []string
	for {
		_, err := os.Stat(path)
		if err == nil {
			return parents, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		path = filepath.Dir(path)
		parents = append(parents, path)
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // nothing is written through it
	return dir.Sync()
}
