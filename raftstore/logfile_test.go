package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// writeLog makes a log's file with entries first to last of about size bytes.
func writeLog(t testing.TB, path string, first, last uint64, size int) {
	t.Helper()
	store, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var logs []*raft.Log
	for i := first; i <= last; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Type: raft.LogNoop, Data: bytes.Repeat([]byte{byte(i)}, size)})
	}
	if err := errors.Join(store.StoreLogs(logs), store.Set([]byte("key"), []byte("value"))); err != nil {
		t.Fatal(err)
	}
}

func deleteRange(t testing.TB, path string, first, last uint64) {
	t.Helper()
	store, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.DeleteRange(first, last), store.Close()); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A file that grew and whose entries were cut off again is made small at the
// start; the start may be cut short before any step without a loss.
func TestLogFileIsCompacted(t *testing.T) {
	c := Compaction{MinBytes: 1 << 20}.withDefaults()
	for _, killed := range []string{"", "copy", "sync", "rename", "sync directory"} {
		t.Run("killed before "+killed, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, logFile)
			writeLog(t, path, 1, 400, 10_000)
			deleteRange(t, path, 1, 390)
			before := fileSize(t, path)
			if before < 1<<20 {
				t.Fatalf("the file has only %d bytes", before)
			}
			kill := func(step string) error {
				if step == killed {
					return errKilled
				}
				return nil
			}
			_, err := prepareLogFile(dir, path, c, hclog.NewNullLogger(), kill)
			if killed != "" {
				if !errors.Is(err, errKilled) {
					t.Fatalf("err = %v", err)
				}
				// What a crash leaves behind is not removed by whoever crashed.
				if err := os.WriteFile(path+compactSuffix, []byte("half a copy"), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err = prepareLogFile(dir, path, c, hclog.NewNullLogger(), nil); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if after := fileSize(t, path); after > before/4 {
				t.Errorf("the file had %d bytes and has %d", before, after)
			}
			if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the copy is left over: %v", err)
			}
			store, err := openBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			first, _ := store.FirstIndex()
			last, _ := store.LastIndex()
			value, err := store.Get([]byte("key"))
			if first != 391 || last != 400 || string(value) != "value" || err != nil {
				t.Errorf("holds %d to %d, %q, %v", first, last, value, err)
			}
			for i := first; i <= last; i++ {
				var l raft.Log
				if err := store.GetLog(i, &l); err != nil || l.Index != i || len(l.Data) != 10_000 || l.Data[0] != byte(i) {
					t.Errorf("entry %d is %d with %d bytes, %v", i, l.Index, len(l.Data), err)
				}
			}
		})
	}
	t.Run("not worth it", func(t *testing.T) {
		for name, c := range map[string]Compaction{
			"small": {}, "in use": {MinBytes: 1 << 20, FreePercent: 101}, "switched off": {MinBytes: -1},
		} {
			dir := t.TempDir()
			path := filepath.Join(dir, logFile)
			writeLog(t, path, 1, 400, 10_000)
			deleteRange(t, path, 1, 390)
			before := fileSize(t, path)
			if _, err := prepareLogFile(dir, path, c.withDefaults(), hclog.NewNullLogger(), nil); err != nil || fileSize(t, path) != before {
				t.Errorf("%s: %d bytes of %d, %v", name, fileSize(t, path), before, err)
			}
		}
	})
	t.Run("no room for a copy", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, logFile)
		writeLog(t, path, 1, 400, 10_000)
		deleteRange(t, path, 1, 390)
		noRoom := func(string) error { return errNoSpace }
		if s, err := prepareLogFile(dir, path, c, hclog.NewNullLogger(), noRoom); err != nil || s.last != 400 {
			t.Errorf("the start fails because of a copy that is not needed: %v", err)
		}
	})
}

// A whole node is stopped, compacted and goes on.
func TestNodeCompactsAtItsStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	n.configure = func(o *Options) { o.Compaction = Compaction{MinBytes: 256 << 10} }
	c.start()
	value := strings.Repeat("x", 100_000)
	for i := range 12 {
		c.write(fmt.Sprint("k", i), value)
	}
	n.kill()
	path := filepath.Join(n.dir, raftDir, logFile)
	last := func() uint64 {
		s, err := readLogFile(n.dir, path)
		if err != nil {
			t.Fatal(err)
		}
		return s.last
	}()
	writeLog(t, path, last+1, last+100, 50_000)
	deleteRange(t, path, last+1, last+100)
	before := fileSize(t, path)
	n.start()
	c.write("k", "after")
	if after := fileSize(t, path); after > before*2/3 {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
	if get(n, "k11") != value {
		t.Error("an entry is lost")
	}
}

func TestLogSummaryHolds(t *testing.T) {
	s := &logSummary{exists: true, first: 10, last: 30, entries: 15, gaps: [][2]uint64{{15, 20}}}
	for _, tc := range []struct {
		after, to uint64
		want      bool
	}{
		{9, 14, true}, {8, 14, false}, {20, 30, true}, {19, 30, false}, {14, 15, false}, {20, 31, false}, {40, 40, true}, {9, 9, true},
	} {
		if got := s.holds(tc.after, tc.to); got != tc.want {
			t.Errorf("holds %d to %d = %v", tc.after+1, tc.to, got)
		}
	}
	if (&logSummary{}).holds(0, 1) {
		t.Error("nothing holds something")
	}
}

// damageCases are what can happen to the log's file.
func damageCases(t testing.TB) map[string]func(path string) {
	patch := func(path string, at int64, data []byte) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(data, at)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	truncate := func(path string, size int64) {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	page := int64(os.Getpagesize())
	noise := make([]byte, 64<<10)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise)
	put := func(path string, key, value []byte) {
		db, err := bbolt.Open(path, 0o600, boltOptions())
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketLogs).Put(key, value) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(path string){
		"one byte left":        func(p string) { truncate(p, 1) },
		"a page left":          func(p string) { truncate(p, page) },
		"two pages left":       func(p string) { truncate(p, 2*page) },
		"half of it left":      func(p string) { truncate(p, fileSize(t, p)/2) },
		"noise at the start":   func(p string) { patch(p, 0, noise[:2*page]) },
		"noise in the middle":  func(p string) { patch(p, 2*page, noise) },
		"zeros in the middle":  func(p string) { patch(p, 2*page, make([]byte, 20*page)) },
		"text instead":         func(p string) { truncate(p, 0); patch(p, 0, bytes.Repeat([]byte("hello "), 10_000)) },
		"undecodable entry":    func(p string) { put(p, binary.BigEndian.AppendUint64(nil, 3), []byte{0xc1, 0xff}) },
		"empty entry":          func(p string) { put(p, binary.BigEndian.AppendUint64(nil, 3), []byte{}) },
		"entry of another key": func(p string) { put(p, []byte("short"), []byte("value")) },
	}
}

// Whatever happens to the log's file: the start ends with an error that says
// which file it is and what to do, and never with a panic.
func TestDamagedLogFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.start()
	for i := range 20 {
		c.write(fmt.Sprint("k", i), strings.Repeat("v", 4000))
	}
	n.kill()
	good := n.dir
	for name, damage := range damageCases(t) {
		t.Run(name, func(t *testing.T) {
			n.dir = copyDir(t, good)
			path := filepath.Join(n.dir, raftDir, logFile)
			damage(path)
			_, err := Open(t.Context(), n.options())
			var ce *CorruptError
			if !errors.As(err, &ce) || ce.Path != path || !strings.Contains(err.Error(), n.dir) || ce.Remedy == "" {
				t.Fatalf("err = %v, want a *CorruptError about %s", err, path)
			}
		})
	}
}

// FuzzReadLogFile overwrites parts of a log's file.
func FuzzReadLogFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, logFile)
	writeLog(f, path, 1, 60, 500)
	deleteRange(f, path, 1, 20)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint32(0), uint32(len(good)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint32(2*os.Getpagesize()+8), uint32(len(good)))
	f.Add([]byte("noise"), uint32(0), uint32(3*os.Getpagesize()))
	f.Fuzz(func(t *testing.T, noise []byte, at, length uint32) {
		data := bytes.Clone(good)
		data = data[:int(length)%(len(data)+1)]
		if len(data) > 0 {
			copy(data[int(at)%len(data):], noise)
		}
		file := filepath.Join(t.TempDir(), logFile)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readLogFile("data", file)
		var ce *CorruptError
		if err != nil {
			if !errors.As(err, &ce) {
				t.Fatalf("err = %v", err)
			}
			return
		}
		// What is called good can be opened.
		store, err := openBolt(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		if last, err := store.LastIndex(); err != nil || s.exists && last != s.last {
			t.Fatalf("the last entry is %d, %v, was %d", last, err, s.last)
		}
	})
}
