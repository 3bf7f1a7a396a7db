package faultfs

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// entry is a name in a directory.
type entry struct {
	dir  *object
	name string
}

// sync makes a directory's entries durable. A change that spans two directories becomes
// durable in both, and with it what it builds on: earlier changes of the same names and of
// the same object. Otherwise a rename could leave a file under two names or none.
func (n *names) sync(dir *object) {
	synced := make([]bool, len(n.changes))
	touched, objects := map[entry]bool{}, map[*object]bool{}
	for i, c := range slices.Backward(n.changes) {
		synced[i] = objects[c.moved] || slices.ContainsFunc(c.settings, func(s setting) bool {
			return s.dir == dir || touched[entry{s.dir, s.name}]
		})
		if !synced[i] {
			continue
		}
		objects[c.moved] = true
		for _, s := range c.settings {
			touched[entry{s.dir, s.name}] = true
		}
	}
	var left []change
	for i, c := range n.changes {
		if !synced[i] {
			left = append(left, c)
			continue
		}
		for _, s := range c.settings {
			s.dir.old[s.name] = s.to
		}
	}
	n.changes = left
	n.forget(touched)
}

// forget drops what is the same on the disk and in the directory, and what limbo keeps for
// nobody.
func (n *names) forget(synced map[entry]bool) {
	needed := map[*object]bool{}
	pending := map[entry]bool{}
	for _, c := range n.changes {
		needed[c.moved] = true
		for _, s := range c.settings {
			pending[entry{s.dir, s.name}] = true
		}
	}
	for e := range synced {
		if !pending[e] {
			delete(e.dir.old, e.name)
		}
	}
	for _, o := range n.objects {
		for _, was := range o.old {
			needed[was] = true
		}
	}
	for _, o := range n.objects {
		if o.limbo != "" && !needed[o] {
			n.purge(o)
		}
	}
}

// purge removes from limbo what will not come back, and the directory's changes with it.
func (n *names) purge(o *object) {
	// What cannot be removed stays until the file system is mounted again: it takes
	// space in the backing file system and changes nothing else.
	_ = os.RemoveAll(n.path(o))
	o.limbo = ""
	if o.isDir {
		n.changes = slices.DeleteFunc(n.changes, func(c change) bool {
			return !slices.ContainsFunc(c.settings, func(s setting) bool { return s.dir != o })
		})
		clear(o.old)
	}
	if n.objects[o.ino] == o && (o.isDir || !o.named()) {
		delete(n.objects, o.ino)
	}
}

// named tells whether a regular file still has a name; its numbers are forgotten with the
// last one, since the backing file system gives them to new files.
func (o *object) named() bool {
	if o.content == nil {
		return false
	}
	o.content.mu.Lock()
	defer o.content.mu.Unlock()
	if o.content.f == nil {
		return true
	}
	st, err := fstat(o.content.f)
	return err == nil && st.Nlink > 0
}

// cut makes the backing directory what a disk would hold after a power cut. Nothing may be
// open.
func (n *names) cut(rng *rand.Rand, opts CutOptions) (Loss, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	survived := 0
	if opts.Torn {
		survived = rng.IntN(len(n.changes) + 1)
	}
	var loss Loss
	if err := n.cutNames(n.changes[:survived], &loss); err != nil {
		return loss, err
	}
	for _, o := range n.inOrder() {
		if o.content == nil {
			continue
		}
		if err := o.content.cut(rng, opts, &loss); err != nil {
			return loss, err
		}
	}
	return loss, nil
}

// inOrder gives the objects in the order in which they were met.
func (n *names) inOrder() []*object {
	all := make([]*object, 0, len(n.objects))
	for _, o := range n.objects {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *object) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// restored is an entry that is put back.
type restored struct {
	entry
	now, then *object
}

// cutNames puts back entries. Everything that is not where it was goes to limbo first:
// entries may have changed places.
func (n *names) cutNames(survived []change, loss *Loss) error {
	todo := n.toRestore(survived)
	loss.Names = len(todo)
	for _, r := range todo {
		if r.now == nil {
			continue
		}
		path := n.at(r.dir, r.name)
		if err := n.keep(r.now, path); err != nil {
			return fmt.Errorf("faultfs: undoing a name: %w", err)
		}
		if r.now.isDir {
			continue // it is in limbo itself
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("faultfs: undoing a name: %w", err)
		}
	}
	for _, r := range todo {
		if r.then == nil {
			continue
		}
		if err := n.bringBack(r); err != nil {
			return fmt.Errorf("faultfs: putting back a name: %w", err)
		}
	}
	return nil
}

// toRestore compares what is on the disk with what the process saw.
func (n *names) toRestore(survived []change) []restored {
	now, then := map[entry]*object{}, map[entry]*object{}
	for _, c := range n.changes {
		for _, s := range c.settings {
			now[entry{s.dir, s.name}] = s.to
		}
	}
	for e := range now {
		then[e] = e.dir.old[e.name]
	}
	for _, c := range survived {
		for _, s := range c.settings {
			then[entry{s.dir, s.name}] = s.to
		}
	}
	var todo []restored
	for e, o := range now {
		if o != then[e] {
			todo = append(todo, restored{entry: e, now: o, then: then[e]})
		}
	}
	return todo
}

// bringBack puts an object from limbo where it was.
func (n *names) bringBack(r restored) error {
	from, to := n.path(r.then), n.at(r.dir, r.name)
	if !r.then.isDir {
		return os.Link(from, to)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	r.then.limbo, r.then.parent, r.then.name = "", r.dir, r.name
	return nil
}

// clear empties limbo.
func (n *names) clear() error {
	if err := os.RemoveAll(n.limbo); err != nil {
		return fmt.Errorf("faultfs: emptying %s: %w", filepath.Base(n.limbo), err)
	}
	return nil
}
