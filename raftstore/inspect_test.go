package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func TestTune(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader()
	before := n.Tuning()
	if before.Heartbeat != testTiming.Heartbeat || before.SnapshotInterval != testTiming.SnapshotInterval || before.TrailingLogs == 0 {
		t.Fatalf("tuning is %+v", before)
	}
	for name, tc := range map[string]struct{ change, want Tuning }{
		"nothing":   {Tuning{}, Tuning{}},
		"trailing":  {Tuning{TrailingLogs: 77}, Tuning{TrailingLogs: 77}},
		"threshold": {Tuning{SnapshotThreshold: 3}, Tuning{SnapshotThreshold: 3}},
		"interval":  {Tuning{SnapshotInterval: time.Minute}, Tuning{SnapshotInterval: time.Minute}},
		"heartbeat": {Tuning{Heartbeat: time.Second}, Tuning{Heartbeat: time.Second, Election: time.Second}},
		"election":  {Tuning{Election: 2 * time.Second}, Tuning{Election: 2 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			want := before
			if err := n.Tune(before); err != nil {
				t.Fatal(err)
			}
			if err := n.Tune(tc.change); err != nil {
				t.Fatal(err)
			}
			merge := Timing{Heartbeat: tc.want.Heartbeat, Election: tc.want.Election, SnapshotInterval: tc.want.SnapshotInterval,
				SnapshotThreshold: tc.want.SnapshotThreshold, TrailingLogs: tc.want.TrailingLogs}
			if merge.Election == 0 {
				merge.Election = before.Election
			}
			merge = merge.or(Timing{Heartbeat: want.Heartbeat, SnapshotInterval: want.SnapshotInterval,
				SnapshotThreshold: want.SnapshotThreshold, TrailingLogs: want.TrailingLogs})
			want = Tuning{Heartbeat: merge.Heartbeat, Election: merge.Election, SnapshotInterval: merge.SnapshotInterval,
				SnapshotThreshold: merge.SnapshotThreshold, TrailingLogs: merge.TrailingLogs}
			if d := cmp.Diff(want, n.Tuning()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	if err := n.Tune(before); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Tuning{
		"heartbeat below the start": {Heartbeat: testTiming.Heartbeat / 2},
		"heartbeat without end":     {Heartbeat: time.Hour},
		"election below heartbeat":  {Election: testTiming.Heartbeat / 2},
		"election without end":      {Election: time.Hour},
		"restless snapshots":        {SnapshotInterval: 1},
		"negative":                  {SnapshotInterval: -time.Second},
	} {
		var refused *TuningError
		if err := n.Tune(bad); !errors.As(err, &refused) || refused.Reason == "" {
			t.Errorf("%s: %v, want a *TuningError", name, err)
		}
	}
	if d := cmp.Diff(before, n.Tuning()); d != "" {
		t.Errorf("refused changes had an effect:\n%s", d)
	}
	c.write("k", "v")
}

// A tuning has an effect at once: the next snapshot comes when it says so.
func TestLogEntriesAndSnapshots(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	n.configure = func(o *Options) { o.Timing.SnapshotInterval = 20 * time.Millisecond }
	c.start()
	if list, err := n.Snapshots(); err != nil || len(list) != 0 {
		t.Fatalf("snapshots of a new node: %v, %v", list, err)
	}
	index := c.write("k", "v")
	types := map[string]int{}
	var found *LogEntry
	all := func(from, to uint64) (n1 int, err error) {
		err = n.LogEntries(t.Context(), from, to, func(e LogEntry) bool {
			n1++
			types[e.Type]++
			if e.Index == index {
				found = &e
			}
			if e.Type == "configuration" && e.Text != "Voter "+n.ServerID()+" at "+n.raftAddr {
				t.Errorf("configuration is told as %q", e.Text)
			}
			return true
		})
		return n1, err
	}
	if _, err := all(0, 0); err != nil {
		t.Fatal(err)
	}
	if found == nil || found.Command.GetPutCluster().GetCluster().GetAddress() != "v" || found.Type != "command" || found.Size == 0 || found.AppendedAt.IsZero() {
		t.Errorf("entry %d is %+v", index, found)
	}
	if types["configuration"] == 0 || types["command"] == 0 {
		t.Errorf("types are %v", types)
	}
	if count, err := all(index, index); err != nil || count != 1 {
		t.Errorf("one entry: %d, %v", count, err)
	}
	if count, err := all(index+1000, index+2000); err != nil || count != 0 {
		t.Errorf("entries to come: %d, %v", count, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	err := n.LogEntries(canceled, 0, 0, func(LogEntry) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled reader gets %v", err)
	}
	if err := n.LogEntries(t.Context(), 0, 0, func(LogEntry) bool { return false }); err != nil {
		t.Error(err)
	}

	if err := n.Tune(Tuning{SnapshotThreshold: 1, TrailingLogs: 1}); err != nil {
		t.Fatal(err)
	}
	c.write("k", "w")
	eventually(t, "a snapshot", func() error {
		list, err := n.Snapshots()
		if err == nil && len(list) == 0 {
			err = errors.New("none")
		}
		if err == nil && (list[0].Index == 0 || list[0].Size == 0 || time.Since(list[0].Time).Abs() > time.Hour) {
			t.Fatalf("snapshot is %+v", list[0])
		}
		return err
	})
	eventually(t, "the log is cut off", func() error {
		if first, err := n.store.FirstIndex(); err != nil || first <= index {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	found = nil
	if _, err := all(1, index); err != nil || found != nil {
		t.Errorf("entries that were cut off: %+v, %v", found, err)
	}
}

func TestDescribeDamagedEntries(t *testing.T) {
	for _, l := range []*raft.Log{
		{Type: raft.LogCommand, Data: []byte("\xffgarbage")},
		{Type: raft.LogConfiguration, Data: []byte("\xffgarbage")},
		{Type: raft.LogConfiguration},
	} {
		if e := describe(l); e.Text == "" || e.Command != nil {
			t.Errorf("entry %v is told as %+v", l, e)
		}
	}
	if e := describe(&raft.Log{Type: 99}); e.Type != "99" {
		t.Errorf("unknown entry is told as %+v", e)
	}
}
