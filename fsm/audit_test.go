package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func noted(action, object string) func(*pmpb.Command) {
	return func(c *pmpb.Command) {
		c.Note = &pmpb.AuditNote{Action: action, Object: object, Address: "10.0.0.7:4711", Agent: "pmctl/1"}
	}
}

func byOperator(c *pmpb.Command) { c.Note.Operator = true }

func atLevel3(t testing.TB) *replica {
	r := newReplica(t)
	r.must(&pmpb.RaiseFeatureLevel{Level: 3})
	return r
}

// audited gives the audit log as text, the newest first.
func audited(s *fsm.Snapshot, before uint64) []string {
	var out []string
	for e := range s.Audit(before) {
		out = append(out, fmt.Sprintf("%d %s %s", e.GetIndex(), e.GetNote().GetAction(), e.GetNote().GetObject()))
	}
	return out
}

func TestNotesOfCommandsThatTakeEffectAreKept(t *testing.T) {
	r := atLevel3(t)
	create := r.must(putPackage(t, "p"), noted("package.create", "p"), remembering("k0", "h", "created"))
	_ = r.refused(&pmpb.DeletePackage{Name: "q"}, noted("package.delete", "q"))
	r.try(putPackage(t, "p"), noted("package.create", "p"), remembering("k0", "h", "created"))
	r.must(putPackage(t, "background"))
	moved := r.must(&pmpb.Remark{}, noted("leader.transfer", "pm-1"), byOperator, func(c *pmpb.Command) { c.Principal = "ann" })

	want := []string{fmt.Sprintf("%d leader.transfer pm-1", moved), fmt.Sprintf("%d package.create p", create)}
	equal(t, "audit log", audited(r.snap(), 0), want)
	equal(t, "audit log before the last", audited(r.snap(), moved), want[1:])
	equal(t, "entries before the first", len(audited(r.snap(), create)), 0)

	var last *pmpb.AuditEntry
	for e := range r.snap().Audit(0) {
		last = e
		break
	}
	if !proto.Equal(last, &pmpb.AuditEntry{
		Index: moved, Time: last.GetTime(), RequestId: "r", Principal: "ann",
		Note: &pmpb.AuditNote{Action: "leader.transfer", Object: "pm-1", Address: "10.0.0.7:4711", Agent: "pmctl/1", Operator: true},
	}) || !last.GetTime().AsTime().Equal(timeOf(moved)) {
		t.Errorf("entry %v", last)
	}
}

func TestNotesAreBounded(t *testing.T) {
	r := atLevel3(t)
	_ = r.refused(&pmpb.Remark{})
	_ = r.refused(&pmpb.Remark{}, noted("", "x"))
	_ = r.refused(&pmpb.Remark{}, noted("x", strings.Repeat("y", fsm.MaxAuditText+1)))
	r.must(&pmpb.Remark{}, noted("x", strings.Repeat("y", fsm.MaxAuditText)))
}

// What many users do must not push out what an operator did, and the other way
// round, also over a restart from a snapshot in between.
func TestTheAuditLogForgetsByClass(t *testing.T) {
	r := atLevel3(t)
	first := r.must(&pmpb.Remark{}, noted("member.remove", "pm-2"), byOperator)
	burst := func(n int, edit ...func(*pmpb.Command)) {
		var entries []fsm.Entry
		for i := range n {
			cmd := command(t, &pmpb.Remark{}, append([]func(*pmpb.Command){noted("deployment.create", "d")}, edit...)...)
			entries = append(entries, fsm.Entry{Index: r.nextIndex() + uint64(i), Term: r.term, Data: encode(t, cmd)})
		}
		r.log = append(r.log, entries...)
		for _, res := range r.state.ApplyBatch(entries) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
	}
	burst(fsm.MaxAuditEntries - 1)
	restored, err := fsm.ReadSnapshot(bytes.NewReader(dump(t, r.snap())))
	if err != nil {
		t.Fatal(err)
	}
	r.state = restored
	burst(3)
	have := audited(r.snap(), 0)
	equal(t, "entries", len(have), fsm.MaxAuditEntries+1)
	equal(t, "oldest", have[len(have)-1], fmt.Sprintf("%d member.remove pm-2", first))
	equal(t, "oldest of the users", have[len(have)-2], fmt.Sprintf("%d deployment.create d", first+3))

	burst(fsm.MaxAuditEntries, byOperator)
	if have = audited(r.snap(), 0); len(have) != 2*fsm.MaxAuditEntries || slices.Contains(have, fmt.Sprintf("%d member.remove pm-2", first)) {
		t.Errorf("%d entries after as many of operators", len(have))
	}
}

// A restore brings old contents back; what was done stays on record, the restore too.
func TestARestoreKeepsTheAuditLog(t *testing.T) {
	r := atLevel3(t)
	saved := dump(t, r.snap())
	r.must(putPackage(t, "p"), noted("package.create", "p"))
	r.restore(saved, noted("snapshot.restore", "s"))
	have := audited(r.snap(), 0)
	if len(have) != 2 || r.snap().Package("p") != nil {
		t.Errorf("audit log %q", have)
	}
}
