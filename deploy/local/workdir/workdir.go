package workdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"oaas.io/control-plane/deploy/local/filelock"
)

// ownerFile is locked by the process that uses the directory.
const ownerFile = "owner.lock"

// Dir is a directory that this process uses alone.
type Dir struct {
	// Path is absolute.
	Path  string
	owner *filelock.Lock
}

// New takes the given directory, or makes one whose name begins with name if given is empty. A directory that another process
// uses is an error.
func New(given, name string) (*Dir, error) {
	path := given
	if path == "" {
		root := filepath.Join(os.TempDir(), "oaas-local-"+strconv.Itoa(os.Getuid()))
		if err := os.MkdirAll(root, 0o700); err != nil {
			return nil, fmt.Errorf("create working directory: %w", err)
		}
		sweep(root)
		var err error
		if path, err = os.MkdirTemp(root, name+"-"); err != nil {
			return nil, fmt.Errorf("create working directory: %w", err)
		}
	} else if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create working directory: %w", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("create working directory: %w", err)
	}
	owner, err := filelock.Try(filepath.Join(path, ownerFile))
	if err != nil {
		return nil, fmt.Errorf("take working directory %s: %w", path, err)
	}
	return &Dir{Path: path, owner: owner}, nil
}

// sweep removes what killed processes left. Errors do not matter: the next New tries again.
func sweep(root string) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		// Without the file, another process is just making the directory.
		if _, err := os.Stat(filepath.Join(dir, ownerFile)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if lock, err := filelock.Try(filepath.Join(dir, ownerFile)); err == nil {
			_ = os.RemoveAll(dir)
			lock.Release()
		}
	}
}

// File is a path below the directory.
func (d *Dir) File(parts ...string) string {
	return filepath.Join(append([]string{d.Path}, parts...)...)
}

// Clear empties the directory.
func (d *Dir) Clear() error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return fmt.Errorf("clear working directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == ownerFile {
			continue
		}
		if err := os.RemoveAll(d.File(entry.Name())); err != nil {
			return fmt.Errorf("clear working directory: %w", err)
		}
	}
	return nil
}

// Keep gives the directory up and leaves it as it is.
func (d *Dir) Keep() {
	_ = os.Remove(d.File(ownerFile))
	d.owner.Release()
}

// Remove deletes the directory.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.Path)
	d.owner.Release()
	return err
}
