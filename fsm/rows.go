package fsm

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
	"oaas.io/control-plane/proto/pmpb"
)

// Package is a stored package. It is immutable, Doc included.
type Package struct {
	Doc         *model.OPackage
	CreateIndex uint64
	ModifyIndex uint64
}

// Deployment is a stored deployment. It is immutable, Doc included.
type Deployment struct {
	Doc *model.OClassDeployment
	// UID names this incarnation of the key.
	UID string
	// Generation starts at 1 and rises with every change of the wish.
	Generation uint64
	// Revision says where the present one comes from; nil where that was before
	// revisions were kept.
	Revision *pmpb.RevisionNote
	// Move is how it leaves environments, and what is remembered of that; nil when there is
	// nothing.
	Move        *pmpb.Move
	CreateIndex uint64
	ModifyIndex uint64
}

// RevisionNumber is the number of the present revision.
func (d *Deployment) RevisionNumber() uint64 { return max(d.Revision.GetNumber(), 1) }

// Plan is the last plan of a deployment. It is immutable.
type Plan struct {
	DeploymentKey string
	DeploymentUID string
	// Generation is the deployment's generation that the plan was made for.
	Generation uint64
	// Document is the plan with its explanation, as JSON.
	Document    []byte
	ModifyIndex uint64
}

// metaRow is the single row about the state. What is not in pb is not in
// snapshots either: it is derived, or is this process's own.
type metaRow struct {
	pb *pmpb.Meta
	// replies sum up the reply table, for eviction in O(1).
	replies replySums
	// audited counts the entries of the audit log, for the same reason.
	audited auditSums
	// past is the size of all past plans.
	past int
	// revisions is the size of all past revisions, timeline the number of its events.
	revisions, timeline int
	// floor is the highest index that this process has published. A restore of
	// an older snapshot must not make the index that readers see go back.
	floor uint64
}

func packageRecord(p *Package) (*pmpb.Package, error) {
	doc, err := p.Doc.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &pmpb.Package{Name: p.Doc.Name, Document: doc, CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex}, nil
}

func deploymentRecord(d *Deployment) (*pmpb.Deployment, error) {
	doc, err := d.Doc.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &pmpb.Deployment{
		Key: d.Doc.Key, Uid: d.UID, Generation: d.Generation, Document: doc, Revision: d.Revision, Move: d.Move,
		CreateIndex: d.CreateIndex, ModifyIndex: d.ModifyIndex,
	}, nil
}

func planRecord(p *Plan) *pmpb.Plan {
	return &pmpb.Plan{
		DeploymentKey: p.DeploymentKey, DeploymentUid: p.DeploymentUID, Generation: p.Generation,
		Document: p.Document, ModifyIndex: p.ModifyIndex,
	}
}

func planRow(p *pmpb.Plan) *Plan {
	return &Plan{
		DeploymentKey: p.GetDeploymentKey(), DeploymentUID: p.GetDeploymentUid(), Generation: p.GetGeneration(),
		Document: p.GetDocument(), ModifyIndex: p.GetModifyIndex(),
	}
}

// encodeDesired encodes the content of a unit without what belongs to the
// delivery. The content belongs to the caller.
func encodeDesired(d *oaaspb.DeploymentUnit) ([]byte, error) {
	d.CreatedAt, d.Delivery = nil, nil
	return recordEncoding.Marshal(d)
}

// Desired decodes the content of a unit. The state admits only units whose
// content can be decoded, so that an error is a defect of this program.
func Desired(u *pmpb.Unit) (*oaaspb.DeploymentUnit, error) {
	d := &oaaspb.DeploymentUnit{}
	if err := decoding.Unmarshal(u.GetDesired(), d); err != nil {
		return nil, fmt.Errorf("fsm: content of unit %q: %w", u.GetId(), err)
	}
	return d, nil
}

// shallow makes a row that may be changed at its top level. Everything it points
// to is shared with the old row and stays read-only.
func shallow[M proto.Message](row M) M {
	from := row.ProtoReflect()
	to := from.New()
	from.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to.Set(fd, v)
		return true
	})
	to.SetUnknown(from.GetUnknown())
	return to.Interface().(M)
}

// maxKeyBytes bounds the names and ids that make up keys.
const maxKeyBytes = 1024

// checkKey refuses what cannot be a key. NUL is the terminator within indexes.
func checkKey(what, key string) error {
	switch {
	case key == "":
		return invalidf("%s is empty", what)
	case len(key) > maxKeyBytes:
		return invalidf("%s has %d bytes, at most %d are allowed", what, len(key), maxKeyBytes)
	case strings.IndexByte(key, 0) >= 0:
		return invalidf("%s holds a NUL byte", what)
	}
	return nil
}
