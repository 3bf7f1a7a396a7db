package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// partial ends the names of files that are being written.
const partial = ".partial"

// directory is a target in a file system.
type directory struct{ path string }

// Dir gives a target that keeps backups as files of a directory, which is made
// when it is missing.
func Dir(path string) (Target, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return &directory{path: path}, nil
}

func (d *directory) String() string { return d.path }

func (d *directory) file(name string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("backup: %q is no name of a backup", name)
	}
	return filepath.Join(d.path, name), nil
}

// Put writes beside the name and renames when all is on the disk.
func (d *directory) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	path, err := d.file(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(d.path, "."+name+"-*"+partial)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	n, err := io.Copy(f, &contextReader{ctx, r})
	if err == nil && n != size {
		err = fmt.Errorf("wrote %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			return syncDir(d.path)
		}
	}
	return fmt.Errorf("backup: %w", errors.Join(err, os.Remove(f.Name())))
}

func (d *directory) List(context.Context) ([]Object, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	var out []Object
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone meanwhile, or none of ours
		}
		out = append(out, Object{Name: e.Name(), Size: info.Size()})
	}
	return out, nil
}

func (d *directory) Get(_ context.Context, name string) (io.ReadCloser, error) {
	path, err := d.file(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return f, nil
}

func (d *directory) Delete(_ context.Context, name string) error {
	path, err := d.file(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	return syncDir(d.path)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { _ = dir.Close() }() // nothing is written through it
	return dir.Sync()
}

// contextReader ends a long copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
