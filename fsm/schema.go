package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"oaas.io/control-plane/proto/pmpb"
)

// The tables, in the order in which a snapshot holds them.
const (
	TableMeta        = "meta"
	TablePackages    = "packages"
	TableDeployments = "deployments"
	TablePlans       = "plans"
	TableUnits       = "units"
	TableClusters    = "clusters"
	TableMembers     = "members"
	TableDeletions   = "deletions"
	TableReplies     = "replies"
	TableAutopilot   = "autopilot"
	TableAlarms      = "alarms"
	TableStaged      = "staged"
)

var tables = [...]string{
	TableMeta, TablePackages, TableDeployments, TablePlans, TableUnits,
	TableClusters, TableMembers, TableDeletions, TableReplies,
	TableAutopilot, TableAlarms, TableStaged,
}

// The indexes. Every table has indexID, its primary key.
const (
	indexID         = "id"
	indexUID        = "uid"
	indexPackage    = "package"
	indexChanged    = "changed"
	indexDeployment = "deployment"
	indexOrder      = "order"
)

// The primary keys of the single rows in TableMeta and TableAutopilot.
const (
	metaKey      = "meta"
	autopilotKey = "autopilot"
)

func newSchema() *memdb.DBSchema {
	tables := []*memdb.TableSchema{
		table(TableMeta, by(indexID, true, func(*metaRow) []byte { return key(metaKey) })),
		table(TablePackages, by(indexID, true, func(p *Package) []byte { return key(p.Doc.Name) })),
		table(TableDeployments,
			by(indexID, true, func(d *Deployment) []byte { return key(d.Doc.Key) }),
			by(indexUID, true, func(d *Deployment) []byte { return key(d.UID) }),
			by(indexPackage, false, func(d *Deployment) []byte { return key(d.Doc.PackageName) })),
		table(TablePlans, by(indexID, true, func(p *Plan) []byte { return key(p.DeploymentKey) })),
		table(TableUnits,
			by(indexID, true, func(u *pmpb.Unit) []byte { return key(u.GetId()) }),
			by(indexChanged, true, func(u *pmpb.Unit) []byte {
				return append(changedKey(u.GetEnv(), u.GetModifyIndex()), u.GetId()...)
			}),
			by(indexDeployment, false, func(u *pmpb.Unit) []byte { return key(u.GetDeploymentUid(), u.GetEnv()) })),
		table(TableClusters, by(indexID, true, func(c *pmpb.Cluster) []byte { return key(c.GetName()) })),
		table(TableMembers, by(indexID, true, func(m *pmpb.Member) []byte { return key(m.GetServerId()) })),
		table(TableDeletions, by(indexID, true, func(d *pmpb.Deletion) []byte { return key(d.GetDeploymentUid()) })),
		table(TableReplies,
			by(indexID, true, func(r *pmpb.Reply) []byte { return key(r.GetKey()) }),
			by(indexOrder, true, func(r *pmpb.Reply) []byte {
				return binary.BigEndian.AppendUint64(key(replyClass(r.GetEphemeral())), r.GetCreateIndex())
			})),
		table(TableAutopilot, by(indexID, true, func(*pmpb.Autopilot) []byte { return key(autopilotKey) })),
		table(TableAlarms, by(indexID, true, func(a *pmpb.Alarm) []byte { return key(alarmKey(a.GetKey())) })),
		table(TableStaged, by(indexID, true, func(p *pmpb.StagedPiece) []byte { return key(stagedKey(p)) })),
	}
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema, len(tables))}
	for _, t := range tables {
		schema.Tables[t.Name] = t
	}
	return schema
}

// changedKey orders the units of an environment by the index of their last change.
func changedKey(env string, modifyIndex uint64) []byte {
	return binary.BigEndian.AppendUint64(key(env), modifyIndex)
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: make(map[string]*memdb.IndexSchema, len(indexes))}
	for _, i := range indexes {
		t.Indexes[i.Name] = i
	}
	return t
}

func by[Row any](name string, unique bool, of func(Row) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: unique, Indexer: indexer[Row](of)}
}

// key joins parts, each with a terminator: keys then sort like their parts, and
// the key of fewer parts is a prefix of that of more parts. Parts hold no NUL.
func key(parts ...string) []byte {
	n := len(parts)
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n)
	for _, p := range parts {
		out = append(append(out, p...), 0)
	}
	return out
}

// indexer derives an index key from a row. It replaces go-memdb's reflection on
// field names, which neither protobuf getters nor nested documents fit.
type indexer[Row any] func(Row) []byte

// FromObject implements memdb.SingleIndexer.
func (f indexer[Row]) FromObject(raw any) (bool, []byte, error) {
	row, ok := raw.(Row)
	if !ok {
		return false, nil, fmt.Errorf("fsm: a %T does not belong into this table", raw)
	}
	return true, f(row), nil
}

// FromArgs implements memdb.Indexer for keys of text parts, or for one key that
// is made already.
func (f indexer[Row]) FromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 {
		if raw, ok := args[0].([]byte); ok {
			return raw, nil
		}
	}
	parts := make([]string, len(args))
	for i, a := range args {
		s, ok := a.(string)
		if !ok {
			return nil, errors.New("fsm: keys are made of text")
		}
		parts[i] = s
	}
	return key(parts...), nil
}

// PrefixFromArgs implements memdb.PrefixIndexer.
func (f indexer[Row]) PrefixFromArgs(args ...any) ([]byte, error) { return f.FromArgs(args...) }
