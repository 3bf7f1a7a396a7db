package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// FuzzApply feeds a state with any bytes as a command: nothing panics, two states
// agree, and what is applied can be snapshotted and restored.
func FuzzApply(f *testing.F) {
	for _, e := range fullReplica5(f).log {
		f.Add(e.Data)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := fullReplica5(t), fullReplica5(t)
		ra, rb := a.raw(data), b.raw(data)
		if (ra.Err == nil) != (rb.Err == nil) {
			t.Fatalf("one state says %v, the other %v", ra.Err, rb.Err)
		}
		written := dump(t, a.snap())
		if !bytes.Equal(written, dump(t, b.snap())) {
			t.Fatal("two states differ after the same log")
		}
		back, err := fsm.ReadSnapshot(bytes.NewReader(written))
		if err != nil {
			t.Fatalf("the state after the command cannot be restored: %v", err)
		}
		if !bytes.Equal(dump(t, back.Snapshot()), written) {
			t.Fatal("the restored state differs")
		}
	})
}

// FuzzReadSnapshot feeds the reader with any bytes: nothing panics, every error is
// typed, and what is accepted is written again as it was read.
func FuzzReadSnapshot(f *testing.F) {
	f.Add(dump(f, fullReplica(f).snap()))
	f.Add(dump(f, fullReplica5(f).snap()))
	f.Add(header())
	f.Fuzz(func(t *testing.T, data []byte) { checkReader(t, data) })
}

// FuzzSnapshotRecords gets behind the compression and the checksums, which keep a
// fuzzer from the records: it varies those, and the rest is made to fit.
func FuzzSnapshotRecords(f *testing.F) {
	inside := frameOf(f, dump(f, fullReplica(f).snap()))
	f.Add(inside[:len(inside)-trailerBytes])
	inside = frameOf(f, dump(f, fullReplica5(f).snap()))
	f.Add(inside[:len(inside)-(1+8*17+sha256.Size)])
	f.Fuzz(func(t *testing.T, data []byte) {
		var records [][]byte
		for len(data) > 0 {
			size, n := binary.Uvarint(data)
			if n <= 0 || size == 0 || size > uint64(len(data)-n) {
				break
			}
			records = append(records, data[n:n+int(size)])
			data = data[n+int(size):]
		}
		checkReader(t, pack(t, frame(t, records)))
		var known []*pmpb.SnapshotRecord
		for _, data := range records {
			rec := &pmpb.SnapshotRecord{}
			if proto.Unmarshal(data, rec) == nil && rec.GetRecord() != nil {
				known = append(known, rec)
			}
		}
		checkReader(t, repack5(t, known))
	})
}

func checkReader(t *testing.T, data []byte) {
	s, err := fsm.ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		if !errors.Is(err, fsm.ErrCorruptSnapshot) {
			t.Fatalf("untyped error %v", err)
		}
		return
	}
	first := dump(t, s.Snapshot())
	again, err := fsm.ReadSnapshot(bytes.NewReader(first))
	if err != nil {
		t.Fatalf("a snapshot of what was read is refused: %v", err)
	}
	if !bytes.Equal(dump(t, again.Snapshot()), first) {
		t.Fatal("a snapshot of what was read gives another state")
	}
}

// FuzzDecodeCommand: what decodes, encodes to what decodes to the same.
func FuzzDecodeCommand(f *testing.F) {
	for _, e := range fullReplica5(f).log {
		f.Add(e.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cmd, err := fsm.DecodeCommand(data)
		if err != nil {
			if !errors.Is(err, fsm.ErrMalformedCommand) && !errors.Is(err, fsm.ErrUnknownCommand) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := fsm.DecodeCommand(encode(t, proto.CloneOf[*pmpb.Command](cmd)))
		if err != nil || !proto.Equal(cmd, again) {
			t.Fatalf("%v became %v (%v)", cmd, again, err)
		}
	})
}
