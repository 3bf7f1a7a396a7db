package fsm

import (
	"encoding/json"
	"fmt"
	"slices"

	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// Limits of the past revisions. They are part of the replicated semantics.
const (
	// MaxRevisions is how many revisions of a deployment are kept, the present one
	// included.
	MaxRevisions = 10
	// MaxRevisionDocument is how many bytes a deployment may have to be kept.
	MaxRevisionDocument = 256 << 10
	// MaxRevisionBytes bounds the documents of all past revisions. The oldest go first.
	MaxRevisionBytes = 64 << 20
	// maxRevisionText bounds the texts of a revision.
	maxRevisionText = 1024
)

// Outcomes of a revision that was left.
const (
	// OutcomeComplete: all environments had it.
	OutcomeComplete = "complete"
	// OutcomeSuperseded: another one came before that.
	OutcomeSuperseded = "superseded"
	// OutcomeFailed: its rollout failed.
	OutcomeFailed = "failed"
)

// revisionKey is the key of a past revision in a snapshot. It sorts as the rows do. A
// restore gives many rows one index.
func revisionKey(r *pmpb.Revision) string {
	return fmt.Sprintf("%020d/%020d/%s", r.GetModifyIndex(), r.GetNote().GetNumber(), r.GetDeploymentKey())
}

// revise gives the deployment another revision when the command says that it is one, and
// keeps the one before.
func (c *call) revise(row, have *Deployment, op *pmpb.Revised) error {
	if have != nil {
		row.Revision = have.Revision
	}
	if op == nil {
		return nil
	}
	if n := max(len(op.GetSummary()), len(op.GetOutcome())); n > maxRevisionText {
		return invalidf("a text of a revision has %d bytes, at most %d are allowed", n, maxRevisionText)
	}
	note := &pmpb.RevisionNote{
		Number: 1, Time: c.now(), Principal: c.cmd.GetPrincipal(), Agent: c.cmd.GetNote().GetAgent(), RequestId: c.cmd.GetRequestId(),
		Summary: op.GetSummary(), RollbackOf: op.GetRollbackOf(),
	}
	if have != nil {
		note.Number = have.RevisionNumber() + 1
		if err := c.keepRevision(have, op.GetOutcome()); err != nil {
			return err
		}
	}
	row.Revision = note
	return nil
}

// keepRevision makes the present revision of a deployment a past one.
func (c *call) keepRevision(have *Deployment, outcome string) error {
	doc, err := have.Doc.MarshalJSON()
	if err != nil {
		return invalidDocument("deployment", err)
	}
	next := &pmpb.Revision{
		DeploymentKey: have.Doc.Key, DeploymentUid: have.UID, Note: have.Revision, Document: doc, Outcome: outcome, ModifyIndex: c.index,
	}
	if next.GetNote() == nil { // from before revisions were kept
		next.Note = &pmpb.RevisionNote{Number: have.RevisionNumber()}
	}
	if len(doc) > MaxRevisionDocument || len(revisionKey(next)) > maxKeyBytes {
		return nil
	}
	past := c.view.Revisions(have.Doc.Key)
	gone := map[*pmpb.Revision]bool{}
	drop := func(r *pmpb.Revision) {
		gone[r] = true
		c.meta.revisions -= len(r.GetDocument())
		c.drop(atRevisions, r)
	}
	// The newest come first, and beside them there are the one that becomes past and
	// the present one.
	for _, old := range past[min(len(past), MaxRevisions-2):] {
		drop(old)
	}
	for old := range c.view.store.revisions().each() {
		if c.meta.revisions+len(doc) <= MaxRevisionBytes {
			break
		}
		if !gone[old] {
			drop(old)
		}
	}
	c.meta.revisions += len(doc)
	c.put(atRevisions, next)
	return nil
}

// dropRevisions forgets the past revisions of a deployment.
func (c *call) dropRevisions(key string) {
	for _, r := range c.view.Revisions(key) {
		c.meta.revisions -= len(r.GetDocument())
		c.drop(atRevisions, r)
	}
}

// Revisions gives the revisions of a deployment before its present one, the newest first.
func (s *Snapshot) Revisions(key string) []*pmpb.Revision {
	out := slices.Collect(while(s.store.revisions().from(revisionsByDeployment, &pmpb.Revision{DeploymentKey: key}), func(r *pmpb.Revision) bool {
		return r.GetDeploymentKey() == key
	}))
	slices.Reverse(out)
	return out
}

// checkRevision refuses a past revision that could not be gone back to.
func checkRevision(r *pmpb.Revision) error {
	note := r.GetNote()
	switch {
	case note.GetNumber() == 0:
		return fmt.Errorf("it has no number")
	case len(r.GetDocument()) > MaxRevisionDocument:
		return fmt.Errorf("its document has %d bytes", len(r.GetDocument()))
	case max(len(note.GetSummary()), len(r.GetOutcome())) > maxRevisionText:
		return fmt.Errorf("it has a text of more than %d bytes", maxRevisionText)
	case note.GetTime() != nil && !note.GetTime().IsValid():
		return fmt.Errorf("its time is out of range")
	}
	doc, err := model.DecodeDeployment(r.GetDocument())
	if err == nil && doc.Key != r.GetDeploymentKey() {
		err = fmt.Errorf("its document is about %q", doc.Key)
	}
	return err
}

// revisions holds the past revisions of a snapshot against what commands let in.
func (k *checker) revisions() error {
	held := map[string]int{}
	seen := map[string]bool{}
	for r := range rowsOf[*pmpb.Revision](k.contents, atRevisions) {
		key := revisionKey(r)
		if owner, ok := k.uids[r.GetDeploymentUid()]; !ok || owner != r.GetDeploymentKey() {
			return k.fail(TableRevisions, "%q has no deployment with the uid %q", key, r.GetDeploymentUid())
		}
		if n, now := r.GetNote().GetNumber(), k.numbers[r.GetDeploymentKey()]; n >= now {
			return k.fail(TableRevisions, "%q has revision %d, which is said to be past revision %d", r.GetDeploymentKey(), now, n)
		}
		once := fmt.Sprintf("%d/%s", r.GetNote().GetNumber(), r.GetDeploymentKey())
		if seen[once] {
			return k.fail(TableRevisions, "%q has revision %d twice", r.GetDeploymentKey(), r.GetNote().GetNumber())
		}
		seen[once] = true
		if held[r.GetDeploymentKey()]++; held[r.GetDeploymentKey()] >= MaxRevisions {
			return k.fail(TableRevisions, "%q has %d or more", r.GetDeploymentKey(), MaxRevisions)
		}
		if k.meta.revisions += len(r.GetDocument()); k.meta.revisions > MaxRevisionBytes {
			return k.fail(TableRevisions, "they have more than %d bytes", MaxRevisionBytes)
		}
		if err := k.indexes(TableRevisions, key, 0, r.GetModifyIndex()); err != nil {
			return err
		}
	}
	return nil
}

// isJSON reports that a document of a rollout is absent or JSON.
func isJSON(doc []byte) bool { return len(doc) == 0 || json.Valid(doc) }
