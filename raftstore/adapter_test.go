package raftstore

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/fsm"
)

func newAdapter(t *testing.T) *adapter {
	t.Helper()
	state, err := fsm.NewState()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return &adapter{level: fsm.Level, fail: func(err error) { t.Error(err) }, state: state, applied: &appliedIndex{}, log: hclog.NewNullLogger(), m: m}
}

func encoded(t *testing.T, key, value string) []byte {
	t.Helper()
	data, err := fsm.EncodeCommand(put(key, value))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The library panics unless a batch has an answer for each of its entries.
func TestAdapterAnswersEveryEntry(t *testing.T) {
	a := newAdapter(t)
	config := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "A", Address: "a:1"}}})
	got := a.ApplyBatch([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: config},
		{Index: 3, Term: 1, Type: raft.LogCommand, Data: encoded(t, "k", "v")},
		{Index: 4, Term: 1, Type: raft.LogCommand, Data: []byte("garbage")},
		{Index: 5, Term: 1, Type: raft.LogConfiguration, Data: config},
	})
	if len(got) != 4 || got[0] != nil || got[3] != nil {
		t.Fatalf("answers: %v", got)
	}
	if r, ok := got[1].(fsm.Result); !ok || r.Err != nil || r.Index != 3 {
		t.Errorf("command: %+v", got[1])
	}
	if r, ok := got[2].(fsm.Result); !ok || !errors.Is(r.Err, fsm.ErrMalformedCommand) {
		t.Errorf("garbage: %+v", got[2])
	}
	if got := a.applied.get(); got != 4 {
		t.Errorf("applied %d, want that of the last command, 4", got)
	}
	if got := a.ApplyBatch([]*raft.Log{{Index: 6, Type: raft.LogConfiguration, Data: config}}); len(got) != 1 {
		t.Errorf("answers to a configuration alone: %v", got)
	}
	if a.Apply(&raft.Log{Index: 7, Term: 1, Data: encoded(t, "k", "w")}).(fsm.Result).Err != nil {
		t.Error("single entry")
	}
}

// A snapshot shows the state when it was taken, whatever is applied meanwhile.
func TestAdapterSnapshotIsFrozen(t *testing.T) {
	a := newAdapter(t)
	a.Apply(&raft.Log{Index: 1, Term: 1, Data: encoded(t, "k", "old")})
	snap, err := a.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	a.Apply(&raft.Log{Index: 2, Term: 1, Data: encoded(t, "k", "new")})
	sink := &memorySink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	b := newAdapter(t)
	if err := b.Restore(io.NopCloser(&sink.Buffer)); err != nil {
		t.Fatal(err)
	}
	if got := b.state.Snapshot().Cluster("k").GetAddress(); got != "old" || b.applied.get() != 1 {
		t.Errorf("restored %q at %d", got, b.applied.get())
	}
	if err := b.Restore(io.NopCloser(bytes.NewReader([]byte("garbage")))); err == nil {
		t.Error("garbage was restored")
	}
	if got := b.state.Snapshot().Cluster("k").GetAddress(); got != "old" {
		t.Errorf("a failed restore left %q", got)
	}
	failing := &memorySink{fail: true}
	if err := snap.Persist(failing); err == nil || !failing.canceled {
		t.Errorf("persist to a full disk = %v, canceled %v", err, failing.canceled)
	}
}

type memorySink struct {
	bytes.Buffer
	fail, canceled bool
}

func (s *memorySink) ID() string    { return "memory" }
func (s *memorySink) Close() error  { return nil }
func (s *memorySink) Cancel() error { s.canceled = true; return nil }
func (s *memorySink) Write(p []byte) (int, error) {
	if s.fail {
		return 0, errNoSpace
	}
	return s.Buffer.Write(p)
}
