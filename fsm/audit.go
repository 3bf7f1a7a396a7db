package fsm

import (
	"fmt"
	"iter"
	"strings"

	"oaas.io/control-plane/proto/pmpb"
)

// NotesFrom is the feature level from which commands carry notes.
const NotesFrom = 3

// Limits of the audit log. They are part of the replicated semantics.
const (
	// MaxAuditEntries is how many entries are kept of what operators did to the
	// control plane, and as many again of what was done to packages and
	// deployments: a busy hour of those must not push out who removed a server.
	MaxAuditEntries = 10_000
	// MaxAuditText is how many bytes each text of a note may have.
	MaxAuditText = 1024
)

// NewNote makes a note with texts that fit.
func NewNote(action, object, detail string) *pmpb.AuditNote {
	return &pmpb.AuditNote{Action: NoteText(action), Object: NoteText(object), Detail: NoteText(detail)}
}

// NoteText makes a text of a note: valid UTF-8 of at most MaxAuditText bytes.
func NoteText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxAuditText {
		return s
	}
	return strings.ToValidUTF8(s[:MaxAuditText], "")
}

// auditSums are the numbers of entries by class.
type auditSums struct{ operators, users int }

func (s *auditSums) of(operator bool) *int {
	if operator {
		return &s.operators
	}
	return &s.users
}

// auditKey is the key of an entry in a snapshot; keys sort as the indexes do.
func auditKey(index uint64) string { return fmt.Sprintf("%020d", index) }

func checkNote(note *pmpb.AuditNote) error {
	if note == nil {
		return nil
	}
	if note.GetAction() == "" {
		return invalidf("a note says nothing about what was done")
	}
	for _, text := range []string{note.GetAction(), note.GetObject(), note.GetDetail(), note.GetAddress(), note.GetAgent()} {
		if len(text) > MaxAuditText {
			return invalidf("a text of a note has %d bytes, at most %d are allowed", len(text), MaxAuditText)
		}
	}
	return nil
}

// remark is a command for the sake of its note.
func remark(_ *call, cmd *pmpb.Command) error {
	if cmd.GetNote() == nil {
		return invalidf("a remark has no note")
	}
	return nil
}

// audit keeps the command's note and drops the oldest of its class when there are
// too many. It runs when the handler has succeeded and cannot fail.
func (c *call) audit(cmd *pmpb.Command) {
	note := cmd.GetNote()
	if note == nil {
		return
	}
	count := c.meta.audited.of(note.GetOperator())
	*count++
	for old := range c.view.auditOf(note.GetOperator(), 0) {
		if *count <= MaxAuditEntries {
			break
		}
		*count--
		c.drop(atAudit, old)
	}
	c.put(atAudit, &pmpb.AuditEntry{
		Index: c.index, Time: c.now(), RequestId: cmd.GetRequestId(), Principal: cmd.GetPrincipal(), Note: note,
	})
}

// auditOf gives the entries of one class after an index, the oldest first.
func (s *Snapshot) auditOf(operator bool, after uint64) iter.Seq[*pmpb.AuditEntry] {
	first := &pmpb.AuditEntry{Index: after + 1, Note: &pmpb.AuditNote{Operator: operator}}
	return while(s.store.audit().from(auditByClass, first), func(e *pmpb.AuditEntry) bool {
		return e.GetNote().GetOperator() == operator
	})
}

// Audit gives the entries of the audit log before an index, the newest first. 0
// stands for the end of the log.
func (s *Snapshot) Audit(before uint64) iter.Seq[*pmpb.AuditEntry] {
	return func(yield func(*pmpb.AuditEntry) bool) {
		if before == 0 {
			before = s.Index() + 1
		}
		s.store.audit().backward(0, &pmpb.AuditEntry{Index: before - 1}, yield)
	}
}

// audit holds the entries of a snapshot against what commands let in.
func (k *checker) audit() error {
	for e := range rowsOf[*pmpb.AuditEntry](k.contents, atAudit) {
		key := auditKey(e.GetIndex())
		if e.GetNote() == nil {
			return k.fail(TableAudit, "%s has no note", key)
		}
		if err := checkNote(e.GetNote()); err != nil {
			return k.fail(TableAudit, "%s: %v", key, err)
		}
		if err := k.indexes(TableAudit, key, 0, e.GetIndex()); err != nil {
			return err
		}
		count := k.meta.audited.of(e.GetNote().GetOperator())
		if *count++; *count > MaxAuditEntries {
			return k.fail(TableAudit, "it has more than %d entries of one class", MaxAuditEntries)
		}
	}
	return nil
}
