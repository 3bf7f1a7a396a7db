package faultfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// The processes of these tests write until they are killed and print a number for each write
// that was committed; others look whether all of these are there.
func init() {
	children["bolt"] = func(args []string) error { return writeBolt(args[0], args[1] == "nosync") }
	children["bolt-check"] = func(args []string) error { return checkBolt(args[0], args[1]) }
	children["bolt-bench"] = func(args []string) error { return benchBolt(args[0], args[1]) }
	children["raft"] = func(args []string) error { return writeRaft(args[0]) }
	children["raft-check"] = func(args []string) error { return checkRaft(args[0], args[1]) }
}

var bucket = []byte("bucket")

func boltOptions(nosync bool) *bbolt.Options {
	return &bbolt.Options{Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, NoSync: nosync}
}

func key(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// value is long for some keys, so that pages of several kinds are written.
func value(i uint64) []byte { return bytes.Repeat(key(i), 1+int(i*i%97)) }

func writeBolt(dir string, nosync bool) error {
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, boltOptions(nosync))
	if err != nil {
		return err
	}
	next, err := last(db)
	if err != nil {
		return err
	}
	if err := syncDirAt(dir); err != nil {
		return err
	}
	for {
		next++
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return b.Put(key(next), value(next))
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Println(next); err != nil {
			return err
		}
	}
}

func last(db *bbolt.DB) (n uint64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucket); b != nil {
			if k, _ := b.Cursor().Last(); k != nil {
				n = binary.BigEndian.Uint64(k)
			}
		}
		return nil
	})
	return n, err
}

func checkBolt(dir, acknowledged string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("bbolt panics: %v", p)
		}
	}()
	n, err := strconv.ParseUint(acknowledged, 10, 64)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, boltOptions(false))
	if err != nil {
		return err
	}
	return errors.Join(db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return errors.New("everything is gone")
		}
		for i := range n {
			if !bytes.Equal(b.Get(key(i+1)), value(i+1)) {
				return fmt.Errorf("%d was acknowledged and is gone; the last was %d", i+1, n)
			}
		}
		for err := range tx.Check() {
			return err
		}
		return nil
	}), db.Close())
}

// cutWhile lets a child write until a random moment and cuts the power. It gives the last
// number that was acknowledged.
func cutWhile(t *testing.T, f *FS, rng *rand.Rand, acknowledged, lines int, name string, args ...string) int {
	t.Helper()
	c := startChild(t, name, append([]string{f.Mountpoint()}, args...)...)
	for range 1 + rng.IntN(lines) {
		if !c.lines.Scan() {
			t.Fatalf("the process has ended: %v", c.wait())
		}
		acknowledged = number(t, c.lines.Text(), acknowledged)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for c.lines.Scan() {
		acknowledged = number(t, c.lines.Text(), acknowledged)
	}
	_ = c.cmd.Wait() // killed
	if _, err := f.PowerCut(rng.Uint64(), CutOptions{Torn: true}); err != nil {
		t.Fatal(err)
	}
	return acknowledged
}

func number(t *testing.T, line string, before int) int {
	n, err := strconv.Atoi(line)
	if err != nil {
		return before // the last line was cut off
	}
	if n < before {
		t.Fatalf("%d was written after %d", n, before)
	}
	return n
}

func TestBboltKeepsWhatItAcknowledged(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	rng := rand.New(rand.NewPCG(1, 1))
	acknowledged := 0
	for range 15 {
		acknowledged = cutWhile(t, f, rng, acknowledged, 60, "bolt", "sync")
		runChild(t, "bolt-check", f.Mountpoint(), strconv.Itoa(acknowledged))
	}
	t.Logf("%d writes in 15 lives", acknowledged)
}

// The harness sees a database that does not keep its word.
func TestBboltWithoutSyncsIsCaught(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	caught := 0
	for range 5 {
		f := mounted(t, Options{NoBackingSync: true})
		acknowledged := cutWhile(t, f, rng, 0, 60, "bolt", "nosync")
		if err := startChild(t, "bolt-check", f.Mountpoint(), strconv.Itoa(acknowledged)).wait(); err != nil {
			caught++
		}
	}
	// What was torn off may by chance have left everything that was acknowledged.
	if caught < 2 {
		t.Errorf("the loss was seen %d times of 5", caught)
	}
}

// writeRaft writes a log and snapshots with the stores that a pmd has, and cuts the log off
// behind each snapshot.
func writeRaft(dir string) error {
	logs, snapshots, err := openRaft(dir)
	if err != nil {
		return err
	}
	next, err := logs.LastIndex()
	if err != nil {
		return err
	}
	for {
		next++
		if err := logs.StoreLogs([]*raft.Log{{Index: next, Term: 1, Data: value(next)}}); err != nil {
			return err
		}
		if _, err := fmt.Println(next); err != nil {
			return err
		}
		if next%20 == 0 {
			if err := snapshot(dir, logs, snapshots, next); err != nil {
				return err
			}
		}
	}
}

func openRaft(dir string) (*raftboltdb.BoltStore, *raft.FileSnapshotStore, error) {
	logs, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "log.db"), BoltOptions: boltOptions(false), MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, hclog.NewNullLogger())
	if err != nil {
		return nil, nil, err
	}
	return logs, snapshots, syncDirAt(dir)
}

func snapshot(dir string, logs *raftboltdb.BoltStore, snapshots *raft.FileSnapshotStore, index uint64) error {
	sink, err := snapshots.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return err
	}
	// The library does not sync the names of the files in a snapshot.
	if err := syncDirAt(filepath.Join(dir, "snapshots", sink.ID()+".tmp")); err != nil {
		return err
	}
	for i := range index {
		if _, err := sink.Write(value(i + 1)); err != nil {
			return err
		}
	}
	if err := sink.Close(); err != nil {
		return err
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return err
	}
	return logs.DeleteRange(first, index-5)
}

func checkRaft(dir, acknowledged string) error {
	n, err := strconv.ParseUint(acknowledged, 10, 64)
	if err != nil {
		return err
	}
	logs, snapshots, err := openRaft(dir)
	if err != nil {
		return err
	}
	have, err := checkSnapshot(snapshots)
	if err != nil {
		return err
	}
	for i := have + 1; i <= n; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil || !bytes.Equal(l.Data, value(i)) {
			return fmt.Errorf("entry %d of %d was acknowledged and is gone, the snapshot ends at %d: %w", i, n, have, err)
		}
	}
	return logs.Close()
}

func checkSnapshot(snapshots *raft.FileSnapshotStore) (uint64, error) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	meta, r, err := snapshots.Open(list[0].ID)
	if err != nil {
		return 0, err
	}
	var want []byte
	for i := range meta.Index {
		want = append(want, value(i+1)...)
	}
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("the snapshot at %d has %d bytes, not %d", meta.Index, len(got), len(want))
	}
	return meta.Index, errors.Join(err, r.Close())
}

func TestRaftStoresKeepWhatTheyAcknowledged(t *testing.T) {
	f := mounted(t, Options{NoBackingSync: true})
	rng := rand.New(rand.NewPCG(3, 3))
	acknowledged := 0
	for range 10 {
		acknowledged = cutWhile(t, f, rng, acknowledged, 70, "raft")
		runChild(t, "raft-check", f.Mountpoint(), strconv.Itoa(acknowledged))
	}
	t.Logf("%d entries in 10 lives", acknowledged)
}

func benchBolt(dir, times string) error {
	n, err := strconv.ParseUint(times, 10, 64)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, boltOptions(false))
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range n {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return b.Put(key(i), value(i))
		})
		if err != nil {
			return err
		}
	}
	_, err = fmt.Println(int(float64(n) / time.Since(began).Seconds()))
	return errors.Join(err, db.Close())
}

// BenchmarkBboltCommits compares synced commits through the file system with those in a
// plain directory, in one run.
func BenchmarkBboltCommits(b *testing.B) {
	f := mounted(b, Options{})
	for name, dir := range map[string]string{"plain": b.TempDir(), "faultfs": f.Mountpoint()} {
		b.Run(name, func(b *testing.B) {
			c := startChild(b, "bolt-bench", dir, strconv.Itoa(b.N))
			if !c.lines.Scan() {
				b.Fatal(c.wait())
			}
			perSecond, err := strconv.Atoi(c.lines.Text())
			if err := errors.Join(err, c.wait(), os.Remove(filepath.Join(dir, "db"))); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(perSecond), "commits/s")
		})
	}
}
