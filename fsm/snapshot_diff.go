package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/pmpb"
)

// maxChanges bounds the rows that a diff lists; its counts have no bound.
const maxChanges = 10_000

// SnapshotDiff is how one snapshot differs from an earlier one.
type SnapshotDiff struct {
	From *SnapshotInfo `json:"from"`
	To   *SnapshotInfo `json:"to"`
	// Tables has those that differ.
	Tables map[string]TableDiff `json:"tables"`
	// Changes are the rows, by table and key.
	Changes []RowChange `json:"changes"`
	// Omitted is the number of rows that Changes has no room for.
	Omitted uint64 `json:"omitted"`
}

// TableDiff counts a table's rows that differ.
type TableDiff struct {
	Added   uint64 `json:"added"`
	Removed uint64 `json:"removed"`
	Changed uint64 `json:"changed"`
}

// RowChange is one row that differs.
type RowChange struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	// Fields of a changed row that differ, by path.
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is one value that differs. nil stands for a missing one.
type FieldChange struct {
	Path string `json:"path"`
	From any    `json:"from"`
	To   any    `json:"to"`
}

// DiffSnapshots compares two snapshots, row by row and in a memory that does not
// depend on their size. Both are read to the end and checked.
func DiffSnapshots(from, to io.Reader) (*SnapshotDiff, error) {
	a, b := newStream(from), newStream(to)
	defer a.close()
	defer b.close()
	d := &SnapshotDiff{Tables: map[string]TableDiff{}, Changes: []RowChange{}}
	for left, right := a.next(), b.next(); left != nil || right != nil; {
		switch c := compareRecords(left, right); {
		case c < 0:
			d.add(left, "removed", nil)
			left = a.next()
		case c > 0:
			d.add(right, "added", nil)
			right = b.next()
		default:
			if !proto.Equal(left, right) {
				if err := d.changed(left, right); err != nil {
					return nil, err
				}
			}
			left, right = a.next(), b.next()
		}
	}
	if err := errors.Join(a.failed("first", a.err), b.failed("second", b.err)); err != nil {
		return nil, err
	}
	d.From, d.To = a.info, b.info
	return d, nil
}

// compareRecords orders records as a snapshot does; nil is the end.
func compareRecords(a, b *pmpb.SnapshotRecord) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	case tableOf(a) != tableOf(b):
		return tableOf(a) - tableOf(b)
	default:
		return strings.Compare(recordKey(a), recordKey(b))
	}
}

func (d *SnapshotDiff) changed(a, b *pmpb.SnapshotRecord) error {
	before, err := generic(a)
	if err != nil {
		return err
	}
	after, err := generic(b)
	if err != nil {
		return err
	}
	d.add(b, "changed", compareValues("", before, after, nil))
	return nil
}

func (d *SnapshotDiff) add(rec *pmpb.SnapshotRecord, kind string, fields []FieldChange) {
	name := tables[tableOf(rec)]
	t := d.Tables[name]
	switch kind {
	case "added":
		t.Added++
	case "removed":
		t.Removed++
	default:
		t.Changed++
	}
	d.Tables[name] = t
	if len(d.Changes) >= maxChanges {
		d.Omitted++
		return
	}
	d.Changes = append(d.Changes, RowChange{Table: name, Key: recordKey(rec), Kind: kind, Fields: fields})
}

// compareValues appends what differs between two JSON values.
func compareValues(path string, a, b any, out []FieldChange) []FieldChange {
	before, okA := a.(map[string]any)
	after, okB := b.(map[string]any)
	if !okA || !okB {
		if reflect.DeepEqual(a, b) {
			return out
		}
		return append(out, FieldChange{Path: path, From: a, To: b})
	}
	keys := map[string]bool{}
	for k := range before {
		keys[k] = true
	}
	for k := range after {
		keys[k] = true
	}
	for _, k := range sortedKeys(keys) {
		out = compareValues(strings.TrimPrefix(path+"."+k, "."), before[k], after[k], out)
	}
	return out
}

// generic gives a record's row as JSON values, with documents and the contents of
// units as what they are.
func generic(rec *pmpb.SnapshotRecord) (any, error) {
	m := rec.ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	row, err := messageValues(m.Get(fd).Message().Interface())
	if err != nil {
		return nil, fmt.Errorf("fsm: %s %q: %w", tables[tableOf(rec)], recordKey(rec), err)
	}
	if doc := documentOf(rec); len(doc) > 0 {
		if parsed, err := decodeJSON[any](doc); err == nil {
			row["document"] = parsed
		}
	}
	if u := rec.GetUnit(); len(u.GetDesired()) > 0 {
		content, err := Desired(u)
		if err != nil {
			return nil, err
		}
		if row["desired"], err = messageValues(content); err != nil {
			return nil, fmt.Errorf("fsm: content of unit %q: %w", recordKey(rec), err)
		}
	}
	return row, nil
}

// messageValues gives a message as JSON values.
func messageValues(m proto.Message) (map[string]any, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return decodeJSON[map[string]any](data)
}

func decodeJSON[Value any](data []byte) (Value, error) {
	var v Value
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err := dec.Decode(&v)
	return v, err
}

func documentOf(rec *pmpb.SnapshotRecord) []byte {
	switch v := rec.GetRecord().(type) {
	case *pmpb.SnapshotRecord_Package:
		return v.Package.GetDocument()
	case *pmpb.SnapshotRecord_Deployment:
		return v.Deployment.GetDocument()
	case *pmpb.SnapshotRecord_Plan:
		return v.Plan.GetDocument()
	case *pmpb.SnapshotRecord_Revision:
		return v.Revision.GetDocument()
	default:
		return nil
	}
}

// stream gives the records of a snapshot one after the other.
type stream struct {
	pull  func() (*pmpb.SnapshotRecord, bool)
	close func()
	info  *SnapshotInfo
	err   error
}

// errEnough ends a read whose reader wants no more.
var errEnough = errors.New("enough")

func newStream(r io.Reader) *stream {
	s := &stream{}
	s.pull, s.close = iter.Pull(func(yield func(*pmpb.SnapshotRecord) bool) {
		in := newInspector(r, nil, func(_ int, rec *pmpb.SnapshotRecord, _ any) error {
			if _, err := rowOf(rec); err != nil {
				return err
			}
			if !yield(rec) {
				return errEnough
			}
			return nil
		})
		s.info, s.err = in.read(maxSnapshotBytes)
	})
	return s
}

// next gives nil at the end, also at one by an error.
func (s *stream) next() *pmpb.SnapshotRecord {
	rec, _ := s.pull()
	return rec
}

func (s *stream) failed(which string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the %s snapshot: %w", which, err)
}

// ExportFilter selects rows of a snapshot.
type ExportFilter struct {
	// Tables to export, of the Table constants; empty is all of them.
	Tables []string
	// KeyPrefix, when set, is how the keys begin.
	KeyPrefix string
}

// exported is one line of an export.
type exported struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	Row   any    `json:"row"`
}

// ExportSnapshot writes selected rows as lines of JSON while it reads: table, key
// and the row, whose documents are JSON too. An error may come after rows were
// written, for instance about a checksum at the end.
func ExportSnapshot(r io.Reader, w io.Writer, filter ExportFilter) (*SnapshotInfo, error) {
	chosen := map[string]bool{}
	for _, t := range filter.Tables {
		if !slices.Contains(tables[:], t) {
			return nil, fmt.Errorf("fsm: there is no table %q; there are %s", t, strings.Join(tables[:], ", "))
		}
		chosen[t] = true
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	in := newInspector(r, nil, func(table int, rec *pmpb.SnapshotRecord, _ any) error {
		key := recordKey(rec)
		if (len(chosen) > 0 && !chosen[tables[table]]) || !strings.HasPrefix(key, filter.KeyPrefix) {
			return nil
		}
		row, err := generic(rec)
		if err != nil {
			return err
		}
		return enc.Encode(exported{Table: tables[table], Key: key, Row: row})
	})
	return in.read(maxSnapshotBytes)
}
