package faultfs

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// handle is an open file.
type handle struct {
	fs     *FS
	object *object
	f      *os.File
	// loopback is f as the library knows it, for attributes.
	loopback *fs.LoopbackFile
}

var (
	_ fs.FileReader    = (*handle)(nil)
	_ fs.FileWriter    = (*handle)(nil)
	_ fs.FileFsyncer   = (*handle)(nil)
	_ fs.FileReleaser  = (*handle)(nil)
	_ fs.FileAllocater = (*handle)(nil)
	_ fs.FileLseeker   = (*handle)(nil)
	_ fs.FileFlusher   = (*handle)(nil)
)

// openAt opens the file at a path; names.mu is held.
func (f *FS) openAt(names *names, path string, flags uint32) (*handle, error) {
	st, err := lstat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, syscall.EINVAL
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	o := names.object(st)
	h, err := f.handle(o, file, path, flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0, false)
	if err != nil || flags&syscall.O_TRUNC == 0 {
		return h, err
	}
	if err := o.content.truncate(0); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// handle makes a handle of an open backing file, which it closes when it cannot.
func (f *FS) handle(o *object, file *os.File, path string, writes, fresh bool) (*handle, error) {
	if err := o.content.open(path, writes, fresh); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.open.add(1)
	return &handle{fs: f, object: o, f: file, loopback: fs.NewLoopbackFileFromOS(file)}, nil
}

// Read reads what was written, synced or not.
func (h *handle) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := h.fs.enter(ctx, reading); errno != 0 {
		return nil, errno
	}
	n, err := h.f.ReadAt(buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fs.ToErrno(err)
	}
	h.fs.count.reads.Add(1)
	h.fs.count.bytesRead.Add(uint64(n)) //nolint:gosec // never negative
	return fuse.ReadResultData(buf[:n]), 0
}

// Write writes through, and remembers what was there.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := h.fs.enter(ctx, writing); errno != 0 {
		return 0, errno
	}
	n, err := h.object.content.write(data, off)
	if n > 0 {
		h.fs.count.writes.Add(1)
		h.fs.count.bytesWritten.Add(uint64(n))
	}
	if errors.Is(err, syscall.ENOSPC) {
		h.fs.count.full.Add(1)
	}
	return uint32(n), fs.ToErrno(err) //nolint:gosec // at most len(data)
}

// Fsync makes durable what was written.
func (h *handle) Fsync(ctx context.Context, _ uint32) syscall.Errno {
	if x, errno := h.fs.enterSync(ctx); errno != 0 {
		if x.Lose {
			h.object.content.lose()
		}
		return errno
	}
	return fs.ToErrno(h.object.content.sync(!h.fs.opts.NoBackingSync))
}

// Flush is what close calls: it promises nothing.
func (h *handle) Flush(context.Context) syscall.Errno { return 0 }

// Release closes.
func (h *handle) Release(context.Context) syscall.Errno {
	h.close()
	return 0
}

func (h *handle) close() {
	_ = h.f.Close() // it was only read through
	h.object.content.release()
	h.fs.open.add(-1)
}

// Allocate takes space for a part of a file. Holes cannot be punched.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	if errno := h.fs.enter(ctx, writing); errno != 0 {
		return errno
	}
	return fs.ToErrno(h.object.content.allocate(int64(off), int64(size))) //nolint:gosec // the kernel checks both
}

// Lseek finds data and holes.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	n, err := unix.Seek(int(h.f.Fd()), int64(off), int(whence)) //nolint:gosec // the kernel checks it
	return uint64(n), fs.ToErrno(err)                           //nolint:gosec // an offset
}

func fstat(f *os.File) (*syscall.Stat_t, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return st, nil
}
