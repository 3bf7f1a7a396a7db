package faultfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// modelFile is what a file may hold after a power cut: its contents when it was last synced
// and at every step since, the first being the synced ones.
type modelFile struct {
	id       int
	versions [][]byte
}

func (m *modelFile) now() []byte { return m.versions[len(m.versions)-1] }

// modelDir is what a directory held when it was last synced and at every step since.
type modelDir struct {
	id       int
	versions []map[string]any
}

func (m *modelDir) now() map[string]any { return m.versions[len(m.versions)-1] }

func (m *modelDir) set(name string, to any) {
	next := map[string]any{}
	for k, v := range m.now() {
		next[k] = v
	}
	if next[name] = to; to == nil {
		delete(next, name)
	}
	m.versions = append(m.versions, next)
}

// model is a file system with what may be left of it.
type model struct {
	root string
	dirs []*modelDir
	ids  int
	// inos are the numbers of files and directories in the backing file system, by which
	// they are known again.
	inos map[uint64]any
	// safe are files that had a durable name once, were never removed and never had
	// another name at the same time: they must be somewhere.
	safe map[*modelFile]bool
}

func (m *model) paths() map[*modelDir]string {
	found := map[*modelDir]string{}
	var walk func(d *modelDir, at string)
	walk = func(d *modelDir, at string) {
		found[d] = at
		for name, o := range d.now() {
			if sub, ok := o.(*modelDir); ok {
				walk(sub, path.Join(at, name))
			}
		}
	}
	walk(m.dirs[0], "")
	return found
}

// steps are what the test does to a file system, chosen by rapid.
type steps struct {
	t     *rapid.T
	m     *model
	fs    *FS
	names []string
}

func (s *steps) dir() (*modelDir, string) {
	paths := s.m.paths()
	var at []*modelDir
	for _, d := range s.m.dirs {
		if _, ok := paths[d]; ok {
			at = append(at, d)
		}
	}
	d := at[rapid.IntRange(0, len(at)-1).Draw(s.t, "dir")]
	return d, filepath.Join(s.fs.Mountpoint(), paths[d])
}

func (s *steps) name() string { return rapid.SampledFrom(s.names).Draw(s.t, "name") }

func (s *steps) ok(err error) {
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *steps) know(at string, o any) {
	st, err := lstat(at)
	s.ok(err)
	s.m.inos[st.Ino] = o
}

// write writes to a file, which it may make.
func (s *steps) write() {
	d, at := s.dir()
	name := s.name()
	at = filepath.Join(at, name)
	f, ok := d.now()[name].(*modelFile)
	if d.now()[name] != nil && !ok {
		return
	}
	if f == nil {
		s.m.ids++
		f = &modelFile{id: s.m.ids, versions: [][]byte{{}}}
		s.ok(put(at, ""))
		s.know(at, f)
		d.set(name, f)
	}
	off := rapid.IntRange(0, 12_000).Draw(s.t, "off")
	data := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(s.t, "byte"))}, rapid.IntRange(1, 6000).Draw(s.t, "n"))
	s.ok(overwrite(at, int64(off), string(data)))
	next := make([]byte, max(len(f.now()), off+len(data)))
	copy(next, f.now())
	copy(next[off:], data)
	f.versions = append(f.versions, next)
}

func (s *steps) file() (*modelDir, string, string, *modelFile) {
	d, at := s.dir()
	name := s.name()
	f, _ := d.now()[name].(*modelFile)
	return d, name, filepath.Join(at, name), f
}

func (s *steps) truncate() {
	_, _, at, f := s.file()
	if f == nil {
		return
	}
	n := rapid.IntRange(0, 15_000).Draw(s.t, "length")
	s.ok(os.Truncate(at, int64(n)))
	next := make([]byte, n)
	copy(next, f.now())
	f.versions = append(f.versions, next)
}

func (s *steps) syncFile() {
	_, _, at, f := s.file()
	if f == nil {
		return
	}
	s.ok(syncFile(at))
	f.versions = [][]byte{f.now()}
}

func (s *steps) syncDir() {
	d, at := s.dir()
	s.ok(syncDirAt(at))
	d.versions = []map[string]any{d.now()}
	for _, o := range d.now() {
		if f, ok := o.(*modelFile); ok {
			if _, known := s.m.safe[f]; !known && d == s.m.dirs[0] {
				s.m.safe[f] = true
			}
		}
	}
}

func (s *steps) unlink() {
	d, name, at, f := s.file()
	if f == nil {
		return
	}
	s.ok(os.Remove(at))
	s.m.safe[f] = false
	d.set(name, nil)
}

func (s *steps) mkdir() {
	d, at := s.dir()
	name := s.name()
	if d.now()[name] != nil || len(s.m.dirs) > 6 {
		return
	}
	s.m.ids++
	sub := &modelDir{id: s.m.ids, versions: []map[string]any{{}}}
	s.ok(os.Mkdir(filepath.Join(at, name), 0o700))
	s.know(filepath.Join(at, name), sub)
	s.m.dirs = append(s.m.dirs, sub)
	d.set(name, sub)
}

func (s *steps) rmdir() {
	d, at := s.dir()
	name := s.name()
	sub, ok := d.now()[name].(*modelDir)
	if !ok || len(sub.now()) > 0 {
		return
	}
	s.ok(syscall.Rmdir(filepath.Join(at, name)))
	d.set(name, nil)
}

// rename moves files, and empty directories over nothing.
func (s *steps) rename() {
	d, at := s.dir()
	to, toAt := s.dir()
	name, toName := s.name(), s.name()
	o := d.now()[name]
	replaced := to.now()[toName]
	if o == nil || o == replaced {
		return
	}
	if _, isDir := o.(*modelDir); isDir && (replaced != nil || s.inside(to, o)) {
		return
	}
	if _, isDir := replaced.(*modelDir); isDir {
		return
	}
	s.ok(os.Rename(filepath.Join(at, name), filepath.Join(toAt, toName)))
	if f, ok := replaced.(*modelFile); ok {
		s.m.safe[f] = false
	}
	if f, ok := o.(*modelFile); ok && to != s.m.dirs[0] {
		s.m.safe[f] = false // its new directory may go with a name above it
	}
	d.set(name, nil)
	to.set(toName, o)
}

// inside tells whether a directory is o or below it.
func (s *steps) inside(d *modelDir, o any) bool {
	if any(d) == o {
		return true
	}
	for _, up := range s.m.dirs {
		for _, child := range up.now() {
			if child == any(d) {
				return s.inside(up, o)
			}
		}
	}
	return false
}

func (s *steps) link() {
	d, _, at, f := s.file()
	to := s.name()
	if f == nil || d.now()[to] != nil {
		return
	}
	s.ok(os.Link(at, filepath.Join(filepath.Dir(at), to)))
	s.m.safe[f] = false
	d.set(to, f)
}

// check compares what is left with what may be, and takes it over.
func (s *steps) check(torn bool) {
	left := map[any]bool{}
	s.ok(filepath.WalkDir(s.fs.Backing(), func(at string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := lstat(at)
		if err != nil {
			return err
		}
		o := s.m.inos[st.Ino]
		left[o] = true
		switch o := o.(type) {
		case *modelFile:
			return s.checkFile(at, o, torn)
		case *modelDir:
			return s.checkDir(at, o)
		}
		return fmt.Errorf("%s is nothing that was made", at)
	}))
	for f, safe := range s.m.safe {
		if safe && !left[f] {
			s.t.Fatalf("file %d has been lost", f.id)
		}
	}
}

func (s *steps) checkFile(at string, f *modelFile, torn bool) error {
	got, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	seen, err := os.ReadFile(filepath.Join(s.fs.Mountpoint(), at[len(s.fs.Backing()):]))
	if err != nil || !bytes.Equal(got, seen) {
		return fmt.Errorf("%s is not what is below: %w", at, err)
	}
	if !torn && !bytes.Equal(got, f.versions[0]) {
		return fmt.Errorf("%s has %d bytes that are not those synced", at, len(got))
	}
	shortest, longest := len(f.versions[0]), 0
	for _, v := range f.versions {
		shortest, longest = min(shortest, len(v)), max(longest, len(v))
	}
	if len(got) < shortest || len(got) > longest {
		return fmt.Errorf("%s has %d bytes, it had %d to %d", at, len(got), shortest, longest)
	}
	for off := 0; off < len(got); off += sectorSize {
		sector := got[off:min(off+sectorSize, len(got))]
		if !slices.ContainsFunc(f.versions, func(v []byte) bool { return bytes.Equal(sector, part(v, off, len(sector))) }) {
			return fmt.Errorf("%s: the sector at %d was never there", at, off)
		}
	}
	f.versions = [][]byte{got}
	return nil
}

// part is a part of a file, zeros behind its end.
func part(v []byte, off, n int) []byte {
	p := make([]byte, n)
	if off < len(v) {
		copy(p, v[off:])
	}
	return p
}

func (s *steps) checkDir(at string, d *modelDir) error {
	entries, err := os.ReadDir(at)
	if err != nil {
		return err
	}
	got := map[string]any{}
	for _, e := range entries {
		st, err := lstat(filepath.Join(at, e.Name()))
		if err != nil {
			return err
		}
		got[e.Name()] = s.m.inos[st.Ino]
	}
	for _, name := range s.names {
		if !slices.ContainsFunc(d.versions, func(v map[string]any) bool { return v[name] == got[name] }) {
			return fmt.Errorf("%s: %s is what it was not since the directory was synced", at, name)
		}
	}
	d.versions = []map[string]any{got}
	return nil
}

// Whatever is done, after a power cut the file system is in a state in which a disk may be.
func TestPowerCutLeavesALegalState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		f, err := Mount(filepath.Join(dir, "backing"), filepath.Join(dir, "mount"), Options{NoBackingSync: true})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}()
		root := &modelDir{versions: []map[string]any{{}}}
		s := &steps{t: rt, fs: f, names: []string{"a", "b", "c"}, m: &model{root: dir, dirs: []*modelDir{root}, inos: map[uint64]any{}, safe: map[*modelFile]bool{}}}
		s.know(f.Backing(), root)
		for range 3 {
			for range rapid.IntRange(1, 25).Draw(rt, "steps") {
				rapid.SampledFrom([]func(){s.write, s.write, s.truncate, s.syncFile, s.syncDir, s.unlink, s.mkdir, s.rmdir, s.rename, s.rename, s.link}).Draw(rt, "step")()
			}
			torn := rapid.Bool().Draw(rt, "torn")
			if _, err := f.PowerCut(rapid.Uint64().Draw(rt, "seed"), CutOptions{Torn: torn}); err != nil {
				rt.Fatal(err)
			}
			s.check(torn)
		}
	})
}
