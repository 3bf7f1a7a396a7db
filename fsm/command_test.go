package fsm_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func TestEveryOperationHasAHandler(t *testing.T) {
	ops := (&pmpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range ops.Len() {
		fd := ops.Get(i)
		if fd.Number() >= 33 {
			continue // restores: their handlers follow
		}
		r := newReplica(t)
		cmd := &pmpb.Command{Version: fsm.Version}
		m := cmd.ProtoReflect()
		m.Set(fd, m.NewField(fd))
		res := r.raw(encode(t, cmd))
		if errors.Is(res.Err, fsm.ErrUnknownCommand) {
			t.Errorf("operation %s has no handler: %v", fd.Name(), res.Err)
		}
	}
}

func TestUnreadableCommandsAreRefused(t *testing.T) {
	unknownField := func(number protowire.Number) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), 1)
	}
	with := func(edit func(*pmpb.Command), op any) []byte { return encode(t, command(t, op, edit)) }
	nothing := func(*pmpb.Command) {}
	pkg := putPackage(t, "p")
	withUnknown := func(m proto.Message) { m.ProtoReflect().SetUnknown(unknownField(900)) }
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, fsm.ErrUnknownCommand},
		{"garbage", []byte("\xff\xff\xff"), fsm.ErrMalformedCommand},
		{"cut off", with(nothing, pkg)[:20], fsm.ErrMalformedCommand},
		{"no operation", with(nothing, nil), fsm.ErrUnknownCommand},
		{"newer version", with(func(c *pmpb.Command) { c.Version = fsm.Version + 1 }, pkg), fsm.ErrUnknownCommand},
		{"operation of a newer version", protowire.AppendBytes(protowire.AppendTag(with(nothing, nil), 99, protowire.BytesType), nil), fsm.ErrUnknownCommand},
		{"field of a newer version", append(with(nothing, pkg), unknownField(900)...), fsm.ErrUnknownCommand},
		{"field in the operation", with(nothing, func() any { op := putPackage(t, "p"); withUnknown(op); return op }()), fsm.ErrUnknownCommand},
		{"field in a guard", with(func(c *pmpb.Command) { c.Guards = []*pmpb.Guard{{}}; withUnknown(c.Guards[0]) }, pkg), fsm.ErrUnknownCommand},
		{"field in the idempotency", with(func(c *pmpb.Command) { c.Idempotency = &pmpb.Idempotency{Key: "k0"}; withUnknown(c.Idempotency) }, pkg), fsm.ErrUnknownCommand},
		{"field in a planned unit", with(nothing, func() any { op := commit(t, "d", "c", "e"); withUnknown(op.Units[0]); return op }()), fsm.ErrUnknownCommand},
		{"field in an update", with(nothing, func() any {
			op := &pmpb.UpdateUnits{Updates: []*pmpb.UnitUpdate{{Id: "x"}}}
			withUnknown(op.Updates[0])
			return op
		}()), fsm.ErrUnknownCommand},
		{"guard on an unknown table", with(func(c *pmpb.Command) { c.Guards = []*pmpb.Guard{{Table: 77, Key: "x"}} }, pkg), fsm.ErrUnknownCommand},
		{"impossible time", with(func(c *pmpb.Command) { c.LeaderTime = &timestamppb.Timestamp{Nanos: -1} }, pkg), fsm.ErrMalformedCommand},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReplica(t)
			before := r.snap()
			res := r.raw(tt.data)
			if !errors.Is(res.Err, tt.want) {
				t.Fatalf("error is %v, want %v", res.Err, tt.want)
			}
			want := proto.CloneOf(before.Meta())
			want.AppliedIndex, want.AppliedTerm, want.AppliedCount, want.ChainHash = 1, r.term, 1, r.snap().Meta().GetChainHash()
			equal(t, "meta", r.snap().Meta(), want)
			equal(t, "rows", rowsOf(t, r.snap()), rowsOf(t, before))
		})
	}
}

func TestContentOfNewerClustersIsKept(t *testing.T) {
	r := newReplica(t)
	op := commit(t, "d", "c", "e")
	extra := protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 7)
	op.Units[0].Desired.ProtoReflect().SetUnknown(extra)
	r.must(op)
	if got := desired(t, r.snap().Unit("d-e")).ProtoReflect().GetUnknown(); string(got) != string(extra) {
		t.Fatalf("unknown fields of the content are %x, want %x", got, extra)
	}
}

func TestEncodeCommand(t *testing.T) {
	if _, err := fsm.EncodeCommand(nil); err == nil {
		t.Error("nil was encoded")
	}
	cmd := command(t, putPackage(t, "p"), func(c *pmpb.Command) { c.Version = 0 })
	back, err := fsm.DecodeCommand(encode(t, cmd))
	if err != nil {
		t.Fatal(err)
	}
	if back.GetVersion() != fsm.Version {
		t.Errorf("version is %d, want %d", back.GetVersion(), fsm.Version)
	}
	equal(t, "decoded command", back, cmd)
	if _, err := fsm.EncodeCommand(command(t, &pmpb.Found{ClusterId: "\xff"})); !errors.Is(err, fsm.ErrMalformedCommand) {
		t.Errorf("text that is no UTF-8 gives %v, want ErrMalformedCommand", err)
	}
}

func TestChainHash(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "c1"})
	r.term = 9
	r.raw([]byte("no command"))
	r.must(putPackage(t, "p"))
	var want []byte
	for _, e := range r.log {
		h := sha256.New()
		h.Write(want)
		h.Write(binary.BigEndian.AppendUint64(nil, e.Index))
		h.Write(binary.BigEndian.AppendUint64(nil, e.Term))
		h.Write(e.Data)
		want = h.Sum(nil)
	}
	m := r.snap().Meta()
	equal(t, "chain hash", m.GetChainHash(), want)
	equal(t, "count", m.GetAppliedCount(), uint64(3))
	equal(t, "term", m.GetAppliedTerm(), uint64(9))
	equal(t, "time", m.GetTime().AsTime(), timeOf(3))
}

func TestEntriesOutOfOrderAreIgnored(t *testing.T) {
	r := newReplica(t)
	r.must(&pmpb.Found{ClusterId: "c1"})
	r.must(putPackage(t, "p"))
	before := dump(t, r.snap())
	for _, index := range []uint64{0, 1, 2} {
		if res := r.state.Apply(index, 3, encode(t, command(t, putPackage(t, "q")))); !errors.Is(res.Err, fsm.ErrIndexOrder) {
			t.Errorf("entry %d gives %v, want ErrIndexOrder", index, res.Err)
		}
	}
	equal(t, "state", dump(t, r.snap()), before)
}

func TestExpectedTerm(t *testing.T) {
	r := newReplica(t)
	in := func(term uint64) func(*pmpb.Command) {
		return func(c *pmpb.Command) { c.ExpectedTerm = term }
	}
	if err := r.refused(putPackage(t, "p"), in(r.term-1)); !errors.Is(err, fsm.ErrTermMismatch) {
		t.Errorf("error is %v, want ErrTermMismatch", err)
	}
	r.must(putPackage(t, "p"), in(r.term))
	r.must(putPackage(t, "p"), in(0))
}

func TestGuards(t *testing.T) {
	r := newReplica(t)
	pkg := r.must(putPackage(t, "pkg"))
	cluster := r.must(&pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: "e1"}})
	dep := r.must(commit(t, "d", "c", "e1"))
	rows := []struct {
		table pmpb.Guard_Table
		key   string
		index uint64
	}{
		{pmpb.Guard_TABLE_PACKAGE, "pkg", pkg},
		{pmpb.Guard_TABLE_CLUSTER, "e1", cluster},
		{pmpb.Guard_TABLE_DEPLOYMENT, "d", dep},
		{pmpb.Guard_TABLE_UNIT, "d-e1", dep},
	}
	var all []*pmpb.Guard
	guarded := func(g ...*pmpb.Guard) func(*pmpb.Command) {
		return func(c *pmpb.Command) { c.Guards = g }
	}
	for _, row := range rows {
		all = append(all, &pmpb.Guard{Table: row.table, Key: row.key, ModifyIndex: row.index}, &pmpb.Guard{Table: row.table, Key: "absent"})
	}
	r.must(&pmpb.Found{ClusterId: "c"}, guarded(all...))
	for _, row := range rows {
		for _, bad := range []*pmpb.Guard{
			{Table: row.table, Key: row.key, ModifyIndex: row.index + 1},
			{Table: row.table, Key: row.key},
			{Table: row.table, Key: "absent", ModifyIndex: 1},
		} {
			err := r.refused(putPackage(t, "other"), guarded(append(all[:len(all):len(all)], bad)...))
			var guard *fsm.GuardError
			if !errors.As(err, &guard) {
				t.Fatalf("error is %v, want a GuardError", err)
			}
			equal(t, "guard", guard.Guard, bad)
			if want := map[bool]uint64{true: row.index}[bad.GetKey() == row.key]; guard.Have != want {
				t.Errorf("guard %v has %d, want %d", bad, guard.Have, want)
			}
		}
	}
}

func remembering(key, hash, body string) func(*pmpb.Command) {
	return func(c *pmpb.Command) {
		c.Idempotency = &pmpb.Idempotency{Key: key, RequestHash: []byte(hash), Status: 201, Body: []byte(body)}
	}
}

func TestIdempotency(t *testing.T) {
	r := newReplica(t)
	first := r.must(putPackage(t, "p"), remembering("k0", "h", "answer"))
	want := &pmpb.Reply{
		Key: "k0", RequestHash: []byte("h"), Status: 201, Body: []byte("answer"),
		Time: timestamppb.New(timeOf(first)), CreateIndex: first,
	}
	equal(t, "stored reply", r.snap().Reply("k0"), want)

	before := rowsOf(t, r.snap())
	res := r.try(putPackage(t, "p"), remembering("k0", "h", "another answer"))
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	equal(t, "replayed reply", res.Reply, want)
	equal(t, "rows after a replay", rowsOf(t, r.snap()), before)

	err := r.refused(putPackage(t, "q"), remembering("k0", "other", ""))
	var conflict *fsm.IdempotencyConflictError
	if !errors.As(err, &conflict) || conflict.Key != "k0" {
		t.Fatalf("error is %v, want a conflict about k0", err)
	}

	// A command that was refused is not remembered: its retry may take effect.
	if err := r.refused(&pmpb.DeletePackage{Name: "none"}, remembering("k1", "h", "")); r.snap().Reply("k1") != nil {
		t.Fatalf("the reply of a refused command (%v) was remembered", err)
	}
	for _, bad := range []func(*pmpb.Command){
		remembering("", "h", ""), remembering("a\x00b", "h", ""), remembering("k1", "h", string(make([]byte, fsm.MaxReplyBody+1))),
	} {
		var invalid *fsm.InvalidCommandError
		if err := r.refused(putPackage(t, "q"), bad); !errors.As(err, &invalid) {
			t.Errorf("error is %v, want an InvalidCommandError", err)
		}
	}
}

func TestRepliesExpireInLeaderTime(t *testing.T) {
	r := newReplica(t)
	at := func(d time.Duration) func(*pmpb.Command) {
		return func(c *pmpb.Command) { c.LeaderTime = timestamppb.New(epoch.Add(d)) }
	}
	r.must(putPackage(t, "p"), remembering("k0", "h", "old"), at(0))
	r.must(putPackage(t, "p"), remembering("k1", "h", "old"), at(time.Hour))
	if res := r.try(putPackage(t, "p"), remembering("k0", "h", ""), at(fsm.ReplyTTL)); res.Reply == nil {
		t.Fatal("the reply was forgotten within its time")
	}
	// The key is free again, and an expired reply goes when another one comes.
	r.must(putPackage(t, "p"), remembering("k0", "h2", "new"), at(fsm.ReplyTTL+time.Second))
	equal(t, "renewed reply", string(r.snap().Reply("k0").GetBody()), "new")
	if r.snap().Reply("k1") == nil {
		t.Fatal("a younger reply was evicted with the expired one")
	}
	r.must(putPackage(t, "p"), remembering("k2", "h", ""), at(fsm.ReplyTTL+2*time.Hour))
	if r.snap().Reply("k1") != nil || r.snap().Reply("k0") == nil {
		t.Fatal("not exactly the expired reply was evicted")
	}
}

func TestRepliesAreBoundedByBytes(t *testing.T) {
	r := newReplica(t)
	body := string(make([]byte, fsm.MaxReplyBody))
	fits := fsm.MaxReplyBytes / fsm.MaxReplyBody
	key := func(i int) string { return time.Duration(i).String() }
	for i := range fits + 3 {
		if i == fits {
			r.reload() // the sum is not part of a snapshot
		}
		r.must(&pmpb.Found{ClusterId: "c"}, remembering(key(i), "h", body))
	}
	for i := range fits + 3 {
		if got, want := r.snap().Reply(key(i)) != nil, i >= 3; got != want {
			t.Fatalf("reply %d of %d is remembered: %v, want %v", i, fits+3, got, want)
		}
	}
}

func TestRepliesAreBoundedInNumber(t *testing.T) {
	r := newReplica(t)
	var entries []fsm.Entry
	key := func(i int) string { return time.Duration(i).String() }
	for i := range fsm.MaxReplies + 2 {
		data := encode(t, command(t, &pmpb.Found{ClusterId: "c"}, remembering(key(i), "h", "")))
		entries = append(entries, fsm.Entry{Index: uint64(i + 1), Term: 1, Data: data})
	}
	r.state.ApplyBatch(entries[:fsm.MaxReplies])
	r.reload() // the count is not part of a snapshot
	r.state.ApplyBatch(entries[fsm.MaxReplies:])
	for i, want := range map[int]bool{0: false, 1: false, 2: true, fsm.MaxReplies + 1: true} {
		if got := r.snap().Reply(key(i)) != nil; got != want {
			t.Errorf("reply %d is remembered: %v, want %v", i, got, want)
		}
	}
}

func TestFailureInABatchIsIsolated(t *testing.T) {
	single, batched := newReplica(t), newReplica(t)
	ops := []any{
		&pmpb.Found{ClusterId: "c"}, putPackage(t, "p"), &pmpb.DeletePackage{Name: "none"},
		commit(t, "d", "c", "e1", "e2"), &pmpb.PutPackage{Document: []byte("{")}, &pmpb.RemoveCluster{Name: "none"}, putPackage(t, "q", "p"),
		&pmpb.DeletePackage{Name: "p"}, &pmpb.DeletePackage{Name: "q"}, &pmpb.DeletePackage{Name: "p"},
	}
	for _, op := range ops {
		single.try(op, remembering("k0", "h", ""), func(c *pmpb.Command) { c.Idempotency = nil })
	}
	results := batched.state.ApplyBatch(single.log)
	wantErr := []bool{false, false, true, false, true, true, false, true, false, false}
	for i, res := range results {
		if (res.Err != nil) != wantErr[i] || res.Index != single.log[i].Index {
			t.Errorf("result %d is %+v, want an error: %v", i, res, wantErr[i])
		}
	}
	equal(t, "state after one batch", dump(t, batched.snap()), dump(t, single.snap()))
	if got := batched.state.ApplyBatch(nil); len(got) != 0 {
		t.Errorf("an empty batch has results: %v", got)
	}
}
