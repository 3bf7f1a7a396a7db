package check

import (
	"fmt"

	"oaas.io/control-plane/jepsen/history"
)

// write is who wrote a value, and which version it became.
type write struct {
	op      int
	outcome history.Outcome
	refused bool
	version uint64
}

// writesOf tells who wrote each value of an object. Values are written once, so what a read
// shows can be traced to its write: one that nobody made, one that was refused, and one that
// has become two versions are wrong whatever else happened.
func writesOf(o *object) (map[string]*write, []Violation) {
	writes := map[string]*write{}
	for i := range o.ops {
		e := &o.ops[i]
		if !isWrite(e.Kind) || e.request.Value == "" {
			continue
		}
		w := &write{op: e.ID, outcome: e.Outcome, refused: e.answer.Refused()}
		if e.Outcome == history.OK && e.Command {
			w.version = e.answer.Version
		}
		writes[e.request.Value] = w
	}
	var violations []Violation
	for i := range o.ops {
		e := &o.ops[i]
		if e.Kind != history.Read || e.Outcome != history.OK || !e.answer.Exists {
			continue
		}
		if v := trace(o, e, writes[e.answer.Value]); v != nil {
			violations = append(violations, *v)
		}
	}
	return writes, violations
}

// trace checks what a read shows against its write.
func trace(o *object, e *entry, w *write) *Violation {
	switch {
	case w == nil:
		return &Violation{
			What: "value from nowhere", Key: o.key, Operations: []int{e.ID},
			Detail: fmt.Sprintf("%s shows %q, which nobody wrote", e.Node, e.answer.Value),
		}
	case w.outcome == history.Failed:
		return &Violation{
			What: "failed write took effect", Key: o.key, Operations: []int{w.op, e.ID},
			Detail: fmt.Sprintf("%q was refused, and %s shows it", e.answer.Value, e.Node),
		}
	case !o.versions || e.answer.Version == 0:
	case w.version == 0:
		w.version = e.answer.Version
	case w.version != e.answer.Version:
		return &Violation{
			What: "one write, two versions", Key: o.key, Operations: []int{w.op, e.ID},
			Detail: fmt.Sprintf("%q was written at %d, and %s shows it at %d", e.answer.Value, w.version, e.Node, e.answer.Version),
		}
	}
	return nil
}
