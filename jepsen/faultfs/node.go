package faultfs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or directory as the kernel sees it. What changes nothing is the library's
// loopback; what changes something goes through names and content.
type node struct {
	*fs.LoopbackNode
	fs *FS
}

var (
	_ fs.NodeWrapChilder    = (*node)(nil)
	_ fs.NodeCreater        = (*node)(nil)
	_ fs.NodeOpener         = (*node)(nil)
	_ fs.NodeOpendirHandler = (*node)(nil)
	_ fs.NodeSetattrer      = (*node)(nil)
	_ fs.NodeMkdirer        = (*node)(nil)
	_ fs.NodeRmdirer        = (*node)(nil)
	_ fs.NodeUnlinker       = (*node)(nil)
	_ fs.NodeRenamer        = (*node)(nil)
	_ fs.NodeLinker         = (*node)(nil)
	_ fs.NodeSymlinker      = (*node)(nil)
	_ fs.NodeMknoder        = (*node)(nil)
	_ fs.NodeCopyFileRanger = (*node)(nil)
	_ fs.NodeStatfser       = (*node)(nil)
	_ fs.FileFsyncdirer     = (*dirHandle)(nil)
	_ fs.FileReaddirenter   = (*dirHandle)(nil)
	_ fs.FileSeekdirer      = (*dirHandle)(nil)
	_ fs.FileReleasedirer   = (*dirHandle)(nil)
	_ fs.NodeSetxattrer     = (*node)(nil)
	_ fs.NodeRemovexattrer  = (*node)(nil)
)

// WrapChild makes nodes of what the loopback finds.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	child, ok := ops.(*fs.LoopbackNode)
	if !ok {
		return ops
	}
	return &node{LoopbackNode: child, fs: n.fs}
}

func (n *node) path() string { return filepath.Join(n.RootData.Path, n.Path(nil)) }

// dir gives the object of a directory; names.mu is held.
func (n *node) dir() (*object, error) {
	if n.IsRoot() {
		return n.fs.names.root, nil
	}
	if o := n.fs.names.objects[n.StableAttr().Ino]; o != nil && o.parent != nil {
		return o, nil
	}
	name, parent := n.Parent()
	up, ok := parentNode(parent)
	if !ok {
		return nil, syscall.ENOENT
	}
	o, err := up.dir()
	if err != nil {
		return nil, err
	}
	found, err := n.fs.names.find(o, name)
	if err == nil && (found == nil || !found.isDir) {
		err = syscall.ENOENT
	}
	return found, err
}

func parentNode(parent *fs.Inode) (*node, bool) {
	if parent == nil {
		return nil, false
	}
	up, ok := parent.Operations().(*node)
	return up, ok
}

// change runs a change of names in a directory, with the faults of writes.
func (n *node) change(ctx context.Context, grows bool, do func(names *names, dir *object) error) syscall.Errno {
	if errno := n.fs.enter(ctx, writing); errno != 0 {
		return errno
	}
	if grows && n.fs.space.none() {
		n.fs.count.full.Add(1)
		return syscall.ENOSPC
	}
	names := n.fs.names
	names.mu.Lock()
	defer names.mu.Unlock()
	dir, err := n.dir()
	if err == nil {
		err = do(names, dir)
	}
	return fs.ToErrno(err)
}

// child is a new entry as the kernel wants it.
func (n *node) child(ctx context.Context, name string, errno syscall.Errno, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno != 0 {
		return nil, errno
	}
	return n.Lookup(ctx, name, out)
}

// owned gives a new file to who asked for it.
func owned(ctx context.Context, path string) error {
	caller, ok := fuse.FromContext(ctx)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(caller.Uid), int(caller.Gid))
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	errno := n.change(ctx, true, func(names *names, dir *object) error {
		path := names.at(dir, name)
		if err := syscall.Mkdir(path, mode); err != nil {
			return err
		}
		if err := owned(ctx, path); err != nil {
			return err
		}
		_, err := names.made(dir, name)
		return err
	})
	return n.child(ctx, name, errno, out)
}

// Symlink makes a symbolic link.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	errno := n.change(ctx, true, func(names *names, dir *object) error {
		path := names.at(dir, name)
		if err := os.Symlink(target, path); err != nil {
			return err
		}
		if err := owned(ctx, path); err != nil {
			return err
		}
		_, err := names.made(dir, name)
		return err
	})
	return n.child(ctx, name, errno, out)
}

// Link makes a further name of a file.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	from, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	errno := n.change(ctx, true, func(names *names, dir *object) error {
		return names.link(from.path(), dir, name)
	})
	return n.child(ctx, name, errno, out)
}

// Mknod is refused: what is neither file, directory nor link has nothing to lose.
func (n *node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Unlink removes a file's name.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.change(ctx, false, func(names *names, dir *object) error { return names.unlink(dir, name) })
}

// Rmdir removes an empty directory.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.change(ctx, false, func(names *names, dir *object) error { return names.rmdir(dir, name) })
}

// Rename moves an entry.
func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	if flags&^unix.RENAME_NOREPLACE != 0 {
		return syscall.EINVAL
	}
	return n.change(ctx, false, func(names *names, dir *object) error {
		toDir, err := to.dir()
		if err != nil {
			return err
		}
		return names.rename(dir, name, toDir, newName, flags&unix.RENAME_NOREPLACE == 0)
	})
}

// Create makes a file, or opens the one that came to be in between.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	var h *handle
	errno := n.change(ctx, true, func(names *names, dir *object) error {
		path := names.at(dir, name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, os.FileMode(mode&0o777))
		if os.IsExist(err) && flags&syscall.O_EXCL == 0 {
			h, err = n.fs.openAt(names, path, flags)
			return err
		}
		if err != nil {
			return err
		}
		if err := owned(ctx, path); err != nil {
			_ = f.Close() // the error before it says more
			return err
		}
		o, err := names.made(dir, name)
		if err != nil {
			_ = f.Close() // the error before it says more
			return err
		}
		h, err = n.fs.handle(o, f, path, true, true)
		return err
	})
	child, errno := n.child(ctx, name, errno, out)
	if errno != 0 {
		if h != nil {
			h.close()
		}
		return nil, nil, 0, errno
	}
	return child, h, 0, 0
}

// Open opens a file.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	names := n.fs.names
	names.mu.Lock()
	defer names.mu.Unlock()
	h, err := n.fs.openAt(names, n.path(), flags)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	return h, 0, 0
}

// Setattr changes lengths through content; modes, owners and times are the library's.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := n.truncate(ctx, f, int64(size)); errno != 0 { //nolint:gosec // the kernel checks it
			return errno
		}
		rest := *in
		rest.Valid &^= fuse.FATTR_SIZE
		in = &rest
	}
	if h, ok := f.(*handle); ok {
		return n.LoopbackNode.Setattr(ctx, h.loopback, in, out)
	}
	return n.LoopbackNode.Setattr(ctx, nil, in, out)
}

func (n *node) truncate(ctx context.Context, f fs.FileHandle, size int64) syscall.Errno {
	h, ok := f.(*handle)
	if !ok {
		names := n.fs.names
		names.mu.Lock()
		opened, err := n.fs.openAt(names, n.path(), syscall.O_RDWR)
		names.mu.Unlock()
		if err != nil {
			return fs.ToErrno(err)
		}
		defer opened.close()
		h = opened
	}
	if errno := n.fs.enter(ctx, writing); errno != 0 {
		return errno
	}
	return fs.ToErrno(h.object.content.truncate(size))
}

// Getattr looks through an open file, which may have no name any more.
func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if h, ok := f.(*handle); ok {
		return n.LoopbackNode.Getattr(ctx, h.loopback, out)
	}
	return n.LoopbackNode.Getattr(ctx, nil, out)
}

// CopyFileRange is refused, so that the kernel reads and writes.
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.EOPNOTSUPP
}

// Setxattr is refused: attributes are not journalled.
func (n *node) Setxattr(context.Context, string, []byte, uint32) syscall.Errno {
	return syscall.EOPNOTSUPP
}

// Removexattr is refused: attributes are not journalled.
func (n *node) Removexattr(context.Context, string) syscall.Errno { return syscall.EOPNOTSUPP }

// Statfs tells how much room is left.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	errno := n.LoopbackNode.Statfs(ctx, out)
	if errno == 0 {
		n.fs.space.tell(out)
	}
	return errno
}

// dirHandle is an open directory.
type dirHandle struct {
	stream interface {
		fs.FileReaddirenter
		fs.FileSeekdirer
		fs.FileReleasedirer
	}
	node *node
}

// OpendirHandle opens a directory.
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	stream, errno := fs.NewLoopbackDirStream(n.path())
	if errno != 0 {
		return nil, 0, errno
	}
	full, ok := stream.(interface {
		fs.FileReaddirenter
		fs.FileSeekdirer
		fs.FileReleasedirer
	})
	if !ok {
		stream.Close()
		return nil, 0, syscall.ENOTSUP
	}
	return &dirHandle{stream: full, node: n}, 0, 0
}

// Readdirent gives the next entry.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	return d.stream.Readdirent(ctx)
}

// Seekdir goes to an entry.
func (d *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return d.stream.Seekdir(ctx, off)
}

// Releasedir closes it.
func (d *dirHandle) Releasedir(ctx context.Context, flags uint32) { d.stream.Releasedir(ctx, flags) }

// Fsyncdir makes the entries durable.
func (d *dirHandle) Fsyncdir(ctx context.Context, _ uint32) syscall.Errno {
	f := d.node.fs
	if _, errno := f.enterSync(ctx); errno != 0 {
		return errno
	}
	f.names.mu.Lock()
	defer f.names.mu.Unlock()
	dir, err := d.node.dir()
	if err != nil {
		return fs.ToErrno(err)
	}
	if !f.opts.NoBackingSync {
		if err := syncPath(f.names.path(dir)); err != nil {
			return fs.ToErrno(err)
		}
	}
	f.names.sync(dir)
	return 0
}

func syncPath(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // nothing is written through it
	return dir.Sync()
}
