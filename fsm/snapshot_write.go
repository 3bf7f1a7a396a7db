package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"

	"oaas.io/control-plane/proto/pmpb"
)

// WriteSnapshot writes the state as it is now.
func (s *State) WriteSnapshot(w io.Writer) error { return s.Snapshot().Write(w) }

// Write writes the view in the snapshot format. Equal states of one build give
// equal bytes.
func (s *Snapshot) Write(w io.Writer) error {
	version := formatOf(s.FeatureLevel())
	header := binary.BigEndian.AppendUint32([]byte(snapshotMagic), version)
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	// One goroutine: the writer shares its machine with the node's Raft.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	rw := &recordWriter{out: z, digest: sha256.New()}
	rw.digest.Write(header)
	s.eachRecord(rw.record)
	rw.trailer(tablesIn(version))
	if err := z.Close(); rw.err == nil {
		rw.err = err
	}
	if rw.err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", rw.err)
	}
	return nil
}

// eachRecord gives every row as a record, in the snapshot's order, until yield
// returns false.
func (s *Snapshot) eachRecord(yield func(*pmpb.SnapshotRecord, error) bool) {
	ok := yield(&pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Meta{Meta: s.Meta()}}, nil)
	ok = ok && records(s.store.packages().each(), yield, func(p *Package) (*pmpb.SnapshotRecord, error) {
		r, err := packageRecord(p)
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Package{Package: r}}, err
	})
	ok = ok && records(s.store.deployments().each(), yield, func(d *Deployment) (*pmpb.SnapshotRecord, error) {
		r, err := deploymentRecord(d)
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Deployment{Deployment: r}}, err
	})
	ok = ok && records(s.store.plans().each(), yield, func(p *Plan) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Plan{Plan: planRecord(p)}}, nil
	})
	ok = ok && records(s.store.units().each(), yield, func(u *pmpb.Unit) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Unit{Unit: u}}, nil
	})
	ok = ok && records(s.store.clusters().each(), yield, func(c *pmpb.Cluster) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Cluster{Cluster: c}}, nil
	})
	ok = ok && records(s.store.members().each(), yield, func(m *pmpb.Member) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Member{Member: m}}, nil
	})
	ok = ok && records(s.store.deletions().each(), yield, func(d *pmpb.Deletion) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Deletion{Deletion: d}}, nil
	})
	ok = ok && records(s.store.replies().each(), yield, func(r *pmpb.Reply) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Reply{Reply: r}}, nil
	})
	ok = ok && records(s.store.autopilot().each(), yield, func(a *pmpb.Autopilot) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Autopilot{Autopilot: a}}, nil
	})
	ok = ok && records(s.store.alarms().each(), yield, func(a *pmpb.Alarm) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Alarm{Alarm: a}}, nil
	})
	ok = ok && records(s.store.staged().each(), yield, func(p *pmpb.StagedPiece) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_StagedPiece{StagedPiece: p}}, nil
	})
	ok = ok && records(s.store.audit().each(), yield, func(e *pmpb.AuditEntry) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_AuditEntry{AuditEntry: e}}, nil
	})
	ok = ok && records(s.store.pastPlans().each(), yield, func(p *Plan) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_PastPlan{PastPlan: planRecord(p)}}, nil
	})
	ok = ok && records(s.store.revisions().each(), yield, func(r *pmpb.Revision) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Revision{Revision: r}}, nil
	})
	ok = ok && records(s.store.rollouts().each(), yield, func(r *pmpb.Rollout) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_Rollout{Rollout: r}}, nil
	})
	_ = ok && records(s.store.timeline().each(), yield, func(e *pmpb.TimelineEvent) (*pmpb.SnapshotRecord, error) {
		return &pmpb.SnapshotRecord{Record: &pmpb.SnapshotRecord_TimelineEvent{TimelineEvent: e}}, nil
	})
}

func records[Row any](rows iter.Seq[Row], yield func(*pmpb.SnapshotRecord, error) bool, of func(Row) (*pmpb.SnapshotRecord, error)) bool {
	for row := range rows {
		if !yield(of(row)) {
			return false
		}
	}
	return true
}

// recordWriter writes the inside of the zstd frame. After an error it does nothing.
type recordWriter struct {
	out    io.Writer
	digest hash.Hash
	counts [len(tables)]uint64
	buf    []byte
	err    error
}

func (w *recordWriter) record(r *pmpb.SnapshotRecord, err error) bool {
	if err != nil {
		w.err = fmt.Errorf("%s %q: %w", tables[tableOf(r)], recordKey(r), err)
		return false
	}
	size := recordEncoding.Size(r)
	if size > maxRecordBytes {
		w.err = fmt.Errorf("%s %q has %d bytes, a record holds at most %d", tables[tableOf(r)], recordKey(r), size, maxRecordBytes)
		return false
	}
	w.buf = binary.AppendUvarint(w.buf[:0], uint64(size))
	if w.buf, err = recordEncoding.MarshalAppend(w.buf, r); err != nil {
		w.err = err
		return false
	}
	w.counts[tableOf(r)]++
	w.write(w.buf)
	return w.err == nil
}

func (w *recordWriter) trailer(tables int) {
	end := []byte{0}
	for _, n := range w.counts[:tables] {
		end = binary.BigEndian.AppendUint64(end, n)
	}
	w.write(end)
	w.write(w.digest.Sum(nil))
}

func (w *recordWriter) write(p []byte) {
	if w.err != nil {
		return
	}
	w.digest.Write(p)
	_, w.err = w.out.Write(p)
}
