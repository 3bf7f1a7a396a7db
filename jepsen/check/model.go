package check

import (
	"fmt"
	"hash/fnv"

	"github.com/anishathalye/porcupine"

	"oaas.io/control-plane/jepsen/history"
)

// step is an operation on one object as the model takes it: what was asked and what is
// known of the answer.
type step struct {
	id   int
	kind string
	// known is false for a write that may have taken effect or not.
	known bool
	// refused is the code with which the state refused a write; empty when it did not.
	refused string
	// value is what a write stores or a read shows, version the index of the command that
	// made it, 0 when nobody was told. exists is of a read.
	value   string
	version uint64
	exists  bool
	// expect is the version that a write asks for; 0 is any.
	expect uint64
	// index is where in the log it happened; 0 when that is not known.
	index uint64
	node  string
}

// state of one object. floor is the place in the log up to which all has happened.
type state struct {
	exists  bool
	value   string
	version uint64
	floor   uint64
}

// register is what one object may do.
type register struct {
	// versions says that only the users' writes make versions, so that they can be relied on.
	versions bool
	// log says that operations happen in the order of the indexes of their answers.
	log bool
}

// model makes porcupine's of it.
func (r register) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, _ any) (bool, any) {
			next, ok := r.step(s.(state), in.(*step))
			return ok, next
		},
		Hash: func(s any) uint64 {
			have := s.(state)
			sum := fnv.New64a()
			fmt.Fprint(sum, have.exists, have.value, have.version, have.floor)
			return sum.Sum64()
		},
		DescribeOperation: func(in, _ any) string { return in.(*step).String() },
		DescribeState:     func(s any) string { return s.(state).String() },
	}
}

func (r register) step(s state, op *step) (state, bool) {
	if r.log && op.index != 0 {
		// Reads may share an index, commands do not.
		if op.index < s.floor || op.index == s.floor && op.kind != history.Read {
			return s, false
		}
		s.floor = op.index
	}
	switch {
	case op.kind == history.Read:
		same := s.exists == op.exists && (!s.exists || s.value == op.value)
		if same && r.versions && s.exists && s.version != 0 && op.version != 0 {
			same = s.version == op.version
		}
		return s, same
	case op.refused != "":
		return s, r.refuses(s, op)
	case r.allows(s, op):
		if op.kind == history.Delete {
			return state{floor: s.floor}, true
		}
		return state{exists: true, value: op.value, version: op.version, floor: s.floor}, true
	default:
		// One that nobody knows of may have been refused.
		return s, !op.known
	}
}

// allows says that a write can take effect.
func (r register) allows(s state, op *step) bool {
	matches := op.expect == 0 || !r.versions || s.version == op.expect
	switch op.kind {
	case history.Create:
		return !s.exists
	case history.Put:
		return op.expect == 0 || s.exists && matches
	default:
		return s.exists && matches
	}
}

// refuses says that a write can be refused as it was.
func (r register) refuses(s state, op *step) bool {
	switch {
	case op.refused == history.RefusedNotFound:
		return !s.exists
	case op.kind == history.Create:
		return s.exists
	case !r.versions:
		return true // the control plane itself may have made another version
	default:
		return s.version != op.expect
	}
}

func (s state) String() string {
	if !s.exists {
		return "absent"
	}
	if s.version == 0 {
		return s.value
	}
	return fmt.Sprintf("%s@%d", s.value, s.version)
}

func (op *step) String() string {
	text := op.kind
	if op.expect != 0 {
		text += fmt.Sprintf(" if @%d", op.expect)
	}
	switch {
	case op.kind == history.Read && op.exists:
		text += " → " + state{exists: true, value: op.value, version: op.version}.String()
	case op.kind == history.Read:
		text += " → absent"
	case op.value != "":
		text += " " + op.value
	}
	switch {
	case op.refused != "":
		text += " → " + op.refused
	case !op.known:
		text += " → ?"
	case op.kind != history.Read:
		text += " → ok"
	}
	if op.index != 0 {
		text += fmt.Sprintf(" at %d", op.index)
	}
	if op.node != "" {
		text += " (" + op.node + ")"
	}
	return text
}
