package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

// follower keeps a copy of the rows by following the changes.
type follower struct {
	rows map[string]any
	at   uint64
}

func follow(s *fsm.Snapshot) *follower {
	f := &follower{rows: rowsByTopic(s), at: s.Index()}
	return f
}

func rowsByTopic(s *fsm.Snapshot) map[string]any {
	rows := map[string]any{}
	for _, topic := range fsm.Topics() {
		for e := range s.Rows(topic) {
			rows[topic+"/"+e.Key] = e.Row
		}
	}
	return rows
}

// pull takes up to most changes and fails when they are not in order.
func (f *follower) pull(s *fsm.State, most int) error {
	changes, upTo, err := s.ChangesAfter(f.at, most)
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.Index <= f.at || ch.Index > upTo || len(ch.Events) == 0 {
			return fmt.Errorf("change at %d with %d events, after %d and up to %d", ch.Index, len(ch.Events), f.at, upTo)
		}
		f.at = ch.Index
		seen := map[string]bool{}
		for _, e := range ch.Events {
			id := e.Topic + "/" + e.Key
			if seen[id] {
				return fmt.Errorf("change %d has %s twice", ch.Index, id)
			}
			seen[id] = true
			if e.Row == nil {
				delete(f.rows, id)
			} else {
				f.rows[id] = e.Row
			}
		}
	}
	f.at = upTo
	return nil
}

// Whoever starts from a view and follows the changes from its index on has the
// rows of every later view: there is no gap, whatever the batches and pauses.
func TestChangesLeadFromViewToView(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &driver{replica: newReplica(t), t: rt, fences: map[string]fenced{}, generations: map[string]uint64{}}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			d.step()
		}
		r := newReplica(t)
		var followers []*follower
		for rest := d.log; len(rest) > 0; {
			n := min(rapid.IntRange(1, 6).Draw(rt, "batch"), len(rest))
			r.state.ApplyBatch(rest[:n])
			rest = rest[n:]
			if rapid.IntRange(0, 3).Draw(rt, "start") == 0 {
				followers = append(followers, follow(r.snap()))
			}
			for _, f := range followers {
				if rapid.Bool().Draw(rt, "pull") {
					if err := f.pull(r.state, rapid.IntRange(1, 4).Draw(rt, "most")); err != nil {
						rt.Fatal(err)
					}
				}
			}
		}
		want := rowsByTopic(r.snap())
		for i, f := range followers {
			for f.at < r.snap().Index() {
				if err := f.pull(r.state, 3); err != nil {
					rt.Fatal(err)
				}
			}
			// Rows are shared, so that the same row is the same pointer.
			if !maps.Equal(f.rows, want) {
				rt.Fatalf("follower %d has\n%v, want\n%v", i, f.rows, want)
			}
		}
	})
}

func TestChangesTellWhoAndWhat(t *testing.T) {
	r := atLevel3(t)
	at := r.must(putPackage(t, "p"), noted("package.create", "p"), func(c *pmpb.Command) { c.Principal = "ann" })
	changes, upTo, err := r.state.ChangesAfter(at-1, 10)
	if err != nil || len(changes) != 1 || upTo != at {
		t.Fatalf("%v up to %d, %v", changes, upTo, err)
	}
	ch := changes[0]
	got := fmt.Sprintf("%d.%d %s %s %s by %s", ch.Term, ch.Index, ch.Time.Sub(timeOf(at)), ch.Operation, ch.RequestID, ch.Principal)
	equal(t, "change", got, fmt.Sprintf("%d.%d 0s put_package r by ann", r.term, at))
	var events []string
	for _, e := range ch.Events {
		events = append(events, fmt.Sprintf("%s %s about %s as %T", e.Topic, e.Key, e.About, e.Row))
	}
	equal(t, "events", events, []string{"packages p about p as *fsm.Package", fmt.Sprintf("audit %020d about p as *pmpb.AuditEntry", at)})
}

// A state that was read from a snapshot knows nothing of what was before, and
// says so instead of leaving a gap.
func TestForgottenChangesAreToldApart(t *testing.T) {
	r := fullReplica(t)
	var compacted *fsm.CompactedError
	if _, _, err := r.state.ChangesAfter(0, 10); err != nil {
		t.Errorf("a state with its whole log does not tell all changes: %v", err)
	}
	restored, err := fsm.ReadSnapshot(bytes.NewReader(dump(t, r.snap())))
	if err != nil {
		t.Fatal(err)
	}
	r.state = restored
	index := r.snap().Index()
	if _, _, err := restored.ChangesAfter(index-1, 10); !errors.As(err, &compacted) || compacted.Oldest != index {
		t.Errorf("changes from before the snapshot: %v", err)
	}
	if changes, upTo, err := restored.ChangesAfter(index, 10); len(changes) != 0 || upTo != index || err != nil {
		t.Errorf("changes after the snapshot: %v, %d, %v", changes, upTo, err)
	}
	if _, upTo, err := restored.ChangesAfter(index+7, 10); upTo != index+7 || err != nil {
		t.Errorf("changes of the future are up to %d, %v", upTo, err)
	}
}

// What is remembered is bounded by events, and one command may be more than that.
func TestThePastIsBounded(t *testing.T) {
	r := newReplica(t)
	const each = 512
	wide := func(i int) uint64 {
		envs := make([]string, each)
		for n := range envs {
			envs[n] = fmt.Sprintf("e%d", n)
		}
		return r.must(commit(r, "d", fmt.Sprintf("c%d", i), envs...))
	}
	first := wide(0)
	if _, _, err := r.state.ChangesAfter(first-1, 1); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range 80 {
		last = wide(i + 1)
	}
	var compacted *fsm.CompactedError
	if _, _, err := r.state.ChangesAfter(first, 1); !errors.As(err, &compacted) || compacted.Oldest <= first || compacted.Oldest >= last {
		t.Errorf("after %d commands of %d rows: %v", 80, each, err)
	}
	equal(t, "oldest", r.state.OldestChange(), compacted.Oldest)
	if changes, _, err := r.state.ChangesAfter(compacted.Oldest, 1); err != nil || changes[0].Index != compacted.Oldest+1 {
		t.Errorf("the oldest that is remembered: %v, %v", changes, err)
	}
}

// wordy is a package with a description of n bytes, which compress well.
func wordy(t testing.TB, name string, n int) *pmpb.PutPackage {
	doc := packageDoc(name)
	doc.Metadata.Description = ptr(strings.Repeat(name, n/len(name)))
	return &pmpb.PutPackage{Document: []byte(jsonOf(t, doc))}
}

// Whoever takes long over what it was given must not hold much of the past.
func TestChangesAreGivenInSmallPortions(t *testing.T) {
	r := newReplica(t)
	f := follow(r.snap())
	for i := range 12 {
		r.must(wordy(t, fmt.Sprintf("p%d", i), 400<<10))
	}
	first, upTo, err := r.state.ChangesAfter(f.at, 100)
	if n := len(first); err != nil || n < 2 || n > 4 || upTo != first[n-1].Index {
		t.Errorf("%d changes of 400 KiB at once, up to %d: %v", n, upTo, err)
	}
	for f.at < r.snap().Index() {
		if err := f.pull(r.state, 100); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(f.rows, rowsByTopic(r.snap())) {
		t.Error("the portions do not make the whole")
	}
}

// A restore is a small command that changes everything: it counts as what it brings.
func TestALargeRestoreIsNotRemembered(t *testing.T) {
	r := atLevel2(t)
	r.must(putPackage(t, "small"))
	small := dump(t, r.snap())
	for i := range 80 {
		r.must(wordy(t, fmt.Sprintf("p%d", i), 450<<10))
	}
	large := dump(t, r.snap())
	done := r.restore(small)
	if changes, _, err := r.state.ChangesAfter(done.Index-1, 1); err != nil || len(changes) != 1 || changes[0].Operation != "commit_restore" {
		t.Errorf("the small restore: %v, %v", changes, err)
	}
	stage, commit := stages("large", large, fsm.MaxPieceBytes)
	for _, op := range stage {
		r.must(op)
	}
	index := r.must(commit)
	var compacted *fsm.CompactedError
	if _, _, err := r.state.ChangesAfter(index-1, 1); !errors.As(err, &compacted) || compacted.Oldest != index {
		t.Errorf("the large restore: %v", err)
	}
}
