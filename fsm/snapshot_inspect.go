package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// SnapshotInfo is what a snapshot file says about itself. It is the result of
// reading the whole file, with all checksums.
type SnapshotInfo struct {
	// Format is the version of the file format.
	Format uint32 `json:"format"`
	// ClusterID is the control plane whose state it is.
	ClusterID string `json:"cluster_id"`
	Epoch     uint64 `json:"epoch"`
	// Index and Term are those of the last command that the state has applied.
	Index        uint64 `json:"index"`
	Term         uint64 `json:"term"`
	Commands     uint64 `json:"commands"`
	FeatureLevel uint32 `json:"feature_level"`
	// ChainHash is over all applied commands, in hex.
	ChainHash string `json:"chain_hash"`
	// Time is when the last command was proposed; nil when none told.
	Time *time.Time `json:"time"`
	// RecoveryID is that of the last recovery, if there ever was one.
	RecoveryID string `json:"recovery_id,omitempty"`
	// Size is that of the file, SHA256 is over all of it, in hex.
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
	// Tables has the tables that are not empty.
	Tables map[string]TableInfo `json:"tables"`
}

// TableInfo is the extent of a table.
type TableInfo struct {
	Rows uint64 `json:"rows"`
	// Bytes is their size before compression.
	Bytes uint64 `json:"bytes"`
	// Largest is the key of the largest row.
	Largest      string `json:"largest,omitempty"`
	LargestBytes uint64 `json:"largest_bytes,omitempty"`
}

// InspectSnapshot reads a snapshot to its end, row by row, and tells what it
// holds. Checksums, order and every row by itself are checked, in a memory that
// does not depend on the size; see VerifySnapshot for the rest.
func InspectSnapshot(r io.Reader) (*SnapshotInfo, error) {
	in := newInspector(r, nil, func(_ int, rec *pmpb.SnapshotRecord, _ any) error {
		_, err := rowOf(rec)
		return err
	})
	return in.read(maxSnapshotBytes)
}

// VerifySnapshot reads a snapshot as a restore would, and also checks how its
// rows fit together. It needs memory for all of them.
func VerifySnapshot(r io.Reader) (*SnapshotInfo, error) {
	info, _, err := verify(r, maxSnapshotBytes)
	return info, err
}

func verify(r io.Reader, limit int64) (*SnapshotInfo, *contents, error) {
	c := &contents{}
	info, err := newInspector(r, rowOf, c.take).read(limit)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, nil, err
	}
	return info, c, nil
}

// inspector sums up what goes through a reader.
type inspector struct {
	records *recordReader
	file    *countedReader
	info    *SnapshotInfo
}

func newInspector(
	r io.Reader, rowOf func(*pmpb.SnapshotRecord) (any, error), visit func(int, *pmpb.SnapshotRecord, any) error,
) *inspector {
	in := &inspector{file: &countedReader{r: r, sum: sha256.New()}, info: &SnapshotInfo{Tables: map[string]TableInfo{}}}
	in.records = &recordReader{rowOf: rowOf, visit: func(table int, rec *pmpb.SnapshotRecord, row any) error {
		in.count(table, rec)
		return visit(table, rec, row)
	}}
	return in
}

func (in *inspector) read(limit int64) (*SnapshotInfo, error) {
	if err := in.records.readFrom(in.file, limit); err != nil {
		return nil, err
	}
	// The decompressor may have left bytes that belong to nothing.
	if n, err := io.Copy(io.Discard, io.LimitReader(in.file, 1)); err != nil || n > 0 {
		return nil, corrupt("trailer", 0, "bytes follow the end", err)
	}
	in.info.Format, in.info.Size, in.info.SHA256 = in.records.version, in.file.n, hex.EncodeToString(in.file.sum.Sum(nil))
	return in.info, nil
}

func (in *inspector) count(table int, rec *pmpb.SnapshotRecord) {
	if m := rec.GetMeta(); m != nil {
		in.info.describe(m)
	}
	t := in.info.Tables[tables[table]]
	size := uint64(proto.Size(rec))
	t.Rows++
	t.Bytes += size
	if size > t.LargestBytes {
		t.Largest, t.LargestBytes = recordKey(rec), size
	}
	in.info.Tables[tables[table]] = t
}

func (i *SnapshotInfo) describe(m *pmpb.Meta) {
	i.ClusterID, i.Epoch, i.RecoveryID = m.GetClusterId(), m.GetEpoch(), m.GetRecoveryId()
	i.Index, i.Term, i.Commands = m.GetAppliedIndex(), m.GetAppliedTerm(), m.GetAppliedCount()
	i.FeatureLevel, i.ChainHash = max(m.GetFeatureLevel(), 1), hex.EncodeToString(m.GetChainHash())
	if m.GetTime() != nil {
		at := m.GetTime().AsTime()
		i.Time = &at
	}
}

// info describes the file that the view is written as, as far as the view tells.
func (s *Snapshot) info() *SnapshotInfo {
	i := &SnapshotInfo{Format: formatOf(s.FeatureLevel())}
	i.describe(s.Meta())
	return i
}

// Save writes the view as Write does and describes the file. Tables is nil: the
// rows are not counted.
func (s *Snapshot) Save(w io.Writer) (*SnapshotInfo, error) {
	sum := sha256.New()
	count := &countedWriter{w: io.MultiWriter(w, sum)}
	if err := s.Write(count); err != nil {
		return nil, err
	}
	info := s.info()
	info.Size, info.SHA256 = count.n, hex.EncodeToString(sum.Sum(nil))
	return info, nil
}

type countedReader struct {
	r   io.Reader
	n   int64
	sum hash.Hash
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	return n, err
}

type countedWriter struct {
	w io.Writer
	n int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
