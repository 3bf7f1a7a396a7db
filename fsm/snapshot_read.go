package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// ReadSnapshot makes a state from a snapshot. An error that matches
// ErrCorruptSnapshot is a *CorruptSnapshotError; it may wrap an error of r.
func ReadSnapshot(r io.Reader) (*State, error) {
	s, err := NewState()
	if err != nil {
		return nil, err
	}
	return s, s.Restore(r)
}

// Restore replaces the contents of the state with those of a snapshot, at once,
// and wakes all watchers of what changes by that. When it fails, the state is as
// before. The index that readers see does not go back, even if the snapshot is
// older than the state.
func (s *State) Restore(r io.Reader) error {
	c, err := readContents(r, maxSnapshotBytes)
	if err != nil {
		return err
	}
	t := s.begin()
	old := s.Snapshot().meta()
	c.meta.floor = max(old.floor, old.pb.GetAppliedIndex())
	t.clear()
	if err := t.put(atMeta, c.meta); err != nil {
		return fmt.Errorf("fsm: restore: %w", err)
	}
	if err := t.fill(c.rows[:]); err != nil {
		return fmt.Errorf("fsm: restore: %w", err)
	}
	s.publisher.replace(t)
	return nil
}

// contents is a checked snapshot.
type contents struct {
	meta *metaRow
	// rows are the rows of each table but meta.
	rows [len(tables)][]any
	// bytes is the size of the snapshot when it is unpacked.
	bytes int
}

// readContents reads and checks a snapshot that has at most limit bytes when it
// is unpacked.
func readContents(r io.Reader, limit int64) (*contents, error) {
	c := &contents{}
	in := &recordReader{rowOf: rowOf, visit: c.take}
	if err := in.readFrom(r, limit); err != nil {
		return nil, err
	}
	c.bytes = int(in.unpacked)
	return c, c.check()
}

// take adds the row of a record.
func (c *contents) take(table int, _ *pmpb.SnapshotRecord, row any) error {
	if meta, ok := row.(*metaRow); ok {
		c.meta = meta
		return nil
	}
	c.rows[table] = append(c.rows[table], row)
	return nil
}

// readFrom reads a whole snapshot, which has at most limit bytes when it is
// unpacked. It has read the end and compared all checksums when it succeeds.
func (r *recordReader) readFrom(src io.Reader, limit int64) error {
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(src, header); err != nil {
		return corrupt("header", 0, "cannot be read", err)
	}
	if string(header[:len(snapshotMagic)]) != snapshotMagic {
		return corrupt("header", 0, "this is no snapshot", nil)
	}
	r.version = binary.BigEndian.Uint32(header[len(snapshotMagic):])
	if r.version == 0 || r.version > snapshotVersion {
		return corrupt("header", 0, fmt.Sprintf("format version %d, supported are 1 to %d", r.version, snapshotVersion), nil)
	}
	z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxSnapshotWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return corrupt("header", 0, "no zstd frame follows", err)
	}
	defer z.Close()
	r.tables = tablesIn(r.version)
	limited := &io.LimitedReader{R: z, N: limit}
	defer func() { r.unpacked = limit - limited.N }()
	in, digest := bufio.NewReaderSize(limited, 64<<10), sha256.New()
	digest.Write(header)
	end, err := parcels(in, digest, r.tables, r.rowOf, r.take)
	if err != nil {
		return err
	}
	if err := r.trailer(end); err != nil {
		return err
	}
	// Reading on to the end also makes zstd compare its checksum.
	switch _, err := in.ReadByte(); {
	case err == nil:
		return corrupt("trailer", 0, "more bytes follow", nil)
	case !errors.Is(err, io.EOF):
		return corrupt("trailer", 0, "the frame does not end well", err)
	}
	return nil
}

func corrupt(where string, record uint64, reason string, cause error) error {
	if cause != nil {
		if errors.Is(cause, io.EOF) {
			cause = io.ErrUnexpectedEOF
		}
		reason = fmt.Sprintf("%s: %v", reason, cause)
	}
	return &CorruptSnapshotError{Where: where, Record: record, Reason: reason, cause: cause}
}

// recordReader reads the inside of the zstd frame.
type recordReader struct {
	// rowOf, when it is set, makes a row of each record, in several goroutines.
	rowOf func(*pmpb.SnapshotRecord) (any, error)
	// visit is given each record, the position of its table and its row.
	visit   func(table int, rec *pmpb.SnapshotRecord, row any) error
	version uint32
	// unpacked is how many bytes the frame has.
	unpacked int64
	// tables is the number of tables that the format's version has.
	tables int
	// number counts the records, table and key are those of the last one.
	number uint64
	table  int
	key    string
	counts [len(tables)]uint64
}

func (r *recordReader) fail(reason string, cause error) error {
	return corrupt(tables[r.table], r.number, reason, cause)
}

func (r *recordReader) take(p *parcel) error {
	for _, d := range p.decoded {
		if err := r.record(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *recordReader) record(d decodedRecord) error {
	r.number++
	if d.err != nil {
		return r.fail("cannot be decoded", d.err)
	}
	table := tableOf(d.rec)
	if table < 0 || table >= r.tables || len(d.rec.ProtoReflect().GetUnknown()) > 0 {
		return r.fail("is of an unknown kind", nil)
	}
	last, lastKey, key := r.table, r.key, recordKey(d.rec)
	r.table, r.key = table, key
	if err := checkKey("key", key); err != nil {
		return r.fail("has no valid key", err)
	}
	if table < last || (table == last && r.number > 1 && key <= lastKey) {
		return r.fail(fmt.Sprintf("%q does not come after %s %q", key, tables[last], lastKey), nil)
	}
	if (r.number == 1) != (table == 0) {
		return r.fail("meta is not the first record", nil)
	}
	if d.invalid != nil {
		return r.fail(fmt.Sprintf("%q is invalid", key), d.invalid)
	}
	r.counts[table]++
	if err := r.visit(table, d.rec, d.row); err != nil {
		return r.fail(fmt.Sprintf("%q is invalid", key), err)
	}
	return nil
}

func (r *recordReader) trailer(end *tail) error {
	switch {
	case end.reason != "":
		r.number = end.number
		return r.fail(end.reason, end.cause)
	case end.number == 0:
		return corrupt("trailer", 0, "there is no record at all", nil)
	case end.cause != nil:
		return corrupt("trailer", 0, "is cut off", end.cause)
	}
	for i, n := range r.counts[:r.tables] {
		if want := binary.BigEndian.Uint64(end.counts[8*i:]); want != n {
			return corrupt("trailer", 0, fmt.Sprintf("%s should have %d records and has %d", tables[i], want, n), nil)
		}
	}
	if !bytes.Equal(end.sum, end.digest) {
		return corrupt("trailer", 0, "the contents do not have the SHA-256 that it names", nil)
	}
	return nil
}

// rowOf makes the row of a record.
func rowOf(rec *pmpb.SnapshotRecord) (any, error) {
	switch v := rec.GetRecord().(type) {
	case *pmpb.SnapshotRecord_Meta:
		return &metaRow{pb: v.Meta}, nil
	case *pmpb.SnapshotRecord_Package:
		doc, err := model.DecodePackage(v.Package.GetDocument())
		if err != nil {
			return nil, err
		}
		if doc.Name != v.Package.GetName() {
			return nil, fmt.Errorf("its document is about %q", doc.Name)
		}
		return &Package{Doc: doc, CreateIndex: v.Package.GetCreateIndex(), ModifyIndex: v.Package.GetModifyIndex()}, nil
	case *pmpb.SnapshotRecord_Deployment:
		return deploymentRow(v.Deployment)
	case *pmpb.SnapshotRecord_Plan:
		return planRow(v.Plan), nil
	case *pmpb.SnapshotRecord_Unit:
		_, err := Desired(v.Unit)
		return v.Unit, err
	case *pmpb.SnapshotRecord_Cluster:
		return v.Cluster, nil
	case *pmpb.SnapshotRecord_Member:
		return v.Member, nil
	case *pmpb.SnapshotRecord_Deletion:
		return v.Deletion, nil
	case *pmpb.SnapshotRecord_Reply:
		return v.Reply, nil
	case *pmpb.SnapshotRecord_Autopilot:
		return v.Autopilot, nil
	case *pmpb.SnapshotRecord_Alarm:
		return v.Alarm, nil
	case *pmpb.SnapshotRecord_StagedPiece:
		return v.StagedPiece, nil
	case *pmpb.SnapshotRecord_AuditEntry:
		return v.AuditEntry, nil
	case *pmpb.SnapshotRecord_PastPlan:
		return planRow(v.PastPlan), nil
	case *pmpb.SnapshotRecord_Revision:
		return v.Revision, checkRevision(v.Revision)
	case *pmpb.SnapshotRecord_Rollout:
		return v.Rollout, checkRollout(v.Rollout)
	case *pmpb.SnapshotRecord_TimelineEvent:
		return v.TimelineEvent, checkTimelineEvent(v.TimelineEvent)
	default:
		return nil, errors.New("unknown kind of record")
	}
}

func deploymentRow(d *pmpb.Deployment) (*Deployment, error) {
	doc, err := model.DecodeDeployment(d.GetDocument())
	if err != nil {
		return nil, err
	}
	if doc.Key != d.GetKey() {
		return nil, fmt.Errorf("its document is about %q", doc.Key)
	}
	if err := checkMove(d.GetMove()); err != nil {
		return nil, err
	}
	return &Deployment{
		Doc: doc, UID: d.GetUid(), Generation: d.GetGeneration(), Revision: d.GetRevision(), Move: d.GetMove(),
		CreateIndex: d.GetCreateIndex(), ModifyIndex: d.GetModifyIndex(),
	}, nil
}
