package faultfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// object is a file or a directory of the backing file system.
type object struct {
	ino   uint64
	isDir bool
	// seq is the order in which objects were met: it does not depend on numbers that
	// the backing file system gives.
	seq int
	// parent and name say where a directory is.
	parent *object
	name   string
	// limbo is the name under which limbo keeps it, empty when it does not.
	limbo string
	// old is what the disk holds of a directory's entries that were changed since its
	// last sync; nil for no entry.
	old map[string]*object
	// content is that of a regular file.
	content *content
}

// setting is one entry that a change of names has set.
type setting struct {
	dir  *object
	name string
	to   *object
}

// change is one call that changes names. It survives a power cut as a whole or not.
type change struct {
	settings []setting
	// moved is what the call was about.
	moved *object
}

// names is the durability of directory entries. All that changes names holds mu over the
// change of the backing directory too, so that its order is that of the changes.
type names struct {
	mu   sync.Mutex
	root *object
	// limbo is the directory that keeps what was removed: a removal that was not synced
	// may have to be undone.
	limbo   string
	space   *space
	objects map[uint64]*object
	// changes are those that are not synced, in order.
	changes []change
	seq     int
}

func newNames(root, limbo string, s *space) (*names, error) {
	if err := os.RemoveAll(limbo); err != nil {
		return nil, fmt.Errorf("faultfs: %w", err)
	}
	if err := os.Mkdir(limbo, 0o700); err != nil {
		return nil, fmt.Errorf("faultfs: %w", err)
	}
	st, err := lstat(root)
	if err != nil {
		return nil, err
	}
	n := &names{limbo: limbo, space: s, objects: map[uint64]*object{}}
	n.root = n.object(st)
	n.root.name = root
	return n, nil
}

func lstat(path string) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return nil, err
	}
	return &st, nil
}

// object gives what is known of a file, and begins to know it.
func (n *names) object(st *syscall.Stat_t) *object {
	if o := n.objects[st.Ino]; o != nil {
		return o
	}
	n.seq++
	o := &object{ino: st.Ino, seq: n.seq}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		o.isDir, o.old = true, map[string]*object{}
	case syscall.S_IFREG:
		o.content = &content{space: n.space, shrunk: wasNever}
	}
	n.objects[st.Ino] = o
	return o
}

// path is where an object is: in limbo, or a directory where it was put.
func (n *names) path(o *object) string {
	switch {
	case o.limbo != "":
		return filepath.Join(n.limbo, o.limbo)
	case o.parent == nil:
		return o.name
	default:
		return filepath.Join(n.path(o.parent), o.name)
	}
}

func (n *names) at(dir *object, name string) string { return filepath.Join(n.path(dir), name) }

// find gives the object at a name, or nil.
func (n *names) find(dir *object, name string) (*object, error) {
	st, err := lstat(n.at(dir, name))
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil //nolint:nilnil // no entry is an answer
	}
	if err != nil {
		return nil, err
	}
	o := n.object(st)
	if o.isDir {
		o.parent, o.name = dir, name
	}
	return o, nil
}

// commit notes a change that was made in the backing directory. before are the objects that
// the settings have replaced.
func (n *names) commit(c change, before ...*object) {
	for i, s := range c.settings {
		if _, changed := s.dir.old[s.name]; !changed {
			s.dir.old[s.name] = before[i]
		}
	}
	n.changes = append(n.changes, c)
}

// made notes a new entry. A new directory knows where it is.
func (n *names) made(dir *object, name string) (*object, error) {
	st, err := lstat(n.at(dir, name))
	if err != nil {
		return nil, err
	}
	// A number that is in use again belongs to a new file.
	delete(n.objects, st.Ino)
	o := n.object(st)
	if o.isDir {
		o.parent, o.name = dir, name
	}
	n.commit(change{settings: []setting{{dir, name, o}}, moved: o}, nil)
	return o, nil
}

// link makes another name of a file.
func (n *names) link(from string, dir *object, name string) error {
	st, err := lstat(from)
	if err != nil {
		return err
	}
	o := n.object(st)
	if err := os.Link(from, n.at(dir, name)); err != nil {
		return err
	}
	n.commit(change{settings: []setting{{dir, name, o}}, moved: o}, nil)
	return nil
}

// keep puts an object into limbo: a file under a further name, a directory itself.
func (n *names) keep(o *object, path string) error {
	if o.limbo != "" {
		return nil
	}
	n.seq++
	name := strconv.Itoa(n.seq)
	var err error
	if o.isDir {
		err = os.Rename(path, filepath.Join(n.limbo, name))
	} else {
		err = os.Link(path, filepath.Join(n.limbo, name))
	}
	if err == nil {
		o.limbo = name
	}
	return err
}

// unlink removes a file's name.
func (n *names) unlink(dir *object, name string) error {
	path := n.at(dir, name)
	o, err := n.find(dir, name)
	switch {
	case err != nil:
		return err
	case o == nil:
		return syscall.ENOENT
	case o.isDir:
		return syscall.EISDIR
	}
	if err := n.keep(o, path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	n.commit(change{settings: []setting{{dir, name, nil}}, moved: o}, o)
	n.unnamed(o)
	return nil
}

// unnamed gives back the space of a file that has no name left but limbo's.
func (n *names) unnamed(o *object) {
	if o.content == nil || o.limbo == "" {
		return
	}
	if st, err := lstat(n.path(o)); err == nil && st.Nlink <= 1 {
		o.content.remove()
	}
}

// rmdir removes an empty directory.
func (n *names) rmdir(dir *object, name string) error {
	o, err := n.emptyDir(dir, name)
	if err != nil {
		return err
	}
	if err := n.keep(o, n.at(dir, name)); err != nil {
		return err
	}
	n.commit(change{settings: []setting{{dir, name, nil}}, moved: o}, o)
	return nil
}

func (n *names) emptyDir(dir *object, name string) (*object, error) {
	o, err := n.find(dir, name)
	switch {
	case err != nil:
		return nil, err
	case o == nil:
		return nil, syscall.ENOENT
	case !o.isDir:
		return nil, syscall.ENOTDIR
	}
	entries, err := os.ReadDir(n.at(dir, name))
	if err == nil && len(entries) > 0 {
		err = syscall.ENOTEMPTY
	}
	return o, err
}

// rename moves an entry over another or to no entry.
func (n *names) rename(dir *object, name string, toDir *object, toName string, replace bool) error {
	o, err := n.find(dir, name)
	if err != nil {
		return err
	}
	if o == nil {
		return syscall.ENOENT
	}
	replaced, err := n.find(toDir, toName)
	switch {
	case err != nil:
		return err
	case replaced == o:
		return nil
	case replaced != nil && !replace:
		return syscall.EEXIST
	case replaced != nil:
		if err := n.makeWay(o, replaced, toDir, toName); err != nil {
			return err
		}
	}
	if err := os.Rename(n.at(dir, name), n.at(toDir, toName)); err != nil {
		return errors.Join(err, n.putBack(replaced, toDir, toName))
	}
	if o.isDir {
		o.parent, o.name = toDir, toName
	}
	n.commit(change{settings: []setting{{dir, name, nil}, {toDir, toName, o}}, moved: o}, o, replaced)
	if replaced != nil {
		n.unnamed(replaced)
	}
	return nil
}

// makeWay keeps what a rename replaces.
func (n *names) makeWay(o, replaced *object, dir *object, name string) error {
	switch {
	case o.isDir && !replaced.isDir:
		return syscall.ENOTDIR
	case !o.isDir && replaced.isDir:
		return syscall.EISDIR
	case replaced.isDir:
		if _, err := n.emptyDir(dir, name); err != nil {
			return err
		}
	}
	return n.keep(replaced, n.at(dir, name))
}

// putBack undoes makeWay for a directory, which is nowhere else than in limbo.
func (n *names) putBack(replaced, dir *object, name string) error {
	if replaced == nil || !replaced.isDir || replaced.limbo == "" {
		return nil
	}
	if err := os.Rename(n.path(replaced), n.at(dir, name)); err != nil {
		return err
	}
	replaced.limbo = ""
	return nil
}
