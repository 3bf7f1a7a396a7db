package check

import (
	"fmt"
	"hash/maphash"
	"math"

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
	// open says that a write took effect at some time after its call, whatever became of it.
	open bool
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
	// class has the steps that differ in nothing which anybody saw, and rank is the place
	// among them in the order of their calls; no class is 0. See alike.
	class, rank int
}

// maxClasses bounds the classes of an object.
const maxClasses = 12

// state of one object. floor is the place in the log up to which all has happened, used how
// many steps of each class have been taken.
type state struct {
	exists  bool
	value   string
	version uint64
	floor   uint64
	used    [maxClasses + 1]uint8
	// ended says that nothing takes effect any more.
	ended bool
}

// theEnd is the kind of a step that comes after all that is known. What nobody knows of
// takes effect before it or never, so that a search need not try all the moments at which
// something could have had no effect.
const theEnd = "end"

// seed of the hashes of states.
var seed = maphash.MakeSeed()

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
			return maphash.Comparable(seed, s.(state))
		},
		DescribeOperation: func(in, _ any) string { return in.(*step).String() },
		DescribeState:     func(s any) string { return s.(state).String() },
	}
}

func (r register) step(s state, op *step) (state, bool) {
	if op.class != 0 {
		if int(s.used[op.class]) != op.rank {
			return s, false
		}
		s.used[op.class]++
	}
	if r.log && op.index != 0 {
		// Reads may share an index, commands do not.
		if op.index < s.floor || op.index == s.floor && op.kind != history.Read {
			return s, false
		}
		s.floor = op.index
	}
	switch {
	case op.kind == theEnd:
		s.ended = true
		return s, true
	case s.ended:
		return s, !op.known
	case op.kind == history.Read:
		same := s.exists == op.exists && (!s.exists || s.value == op.value)
		if same && r.versions && s.exists && s.version != 0 && op.version != 0 {
			same = s.version == op.version
		}
		return s, same
	case op.refused != "":
		return s, r.refuses(s, op)
	case r.allows(s, op):
		s.exists, s.value, s.version = op.kind != history.Delete, op.value, op.version
		return s, true
	default:
		// One that nobody knows of may have been refused.
		return s, !op.known
	}
}

// unseen is the value of all writes of unknown outcome whose own value nobody saw.
const unseen = "a value that nobody saw"

// alike finds the steps of unknown outcome that are as good as each other, and has them
// taken in the order of their calls. That loses nothing: all of them are open to the end, so
// whatever a later one explains, an earlier one does as well. Without it, a search tries all
// subsets of what nobody knows of.
func alike(steps []*step) {
	classes := map[string]int{}
	taken := [maxClasses + 1]int{}
	for _, s := range steps {
		if s.known {
			continue
		}
		if s.kind != history.Delete {
			s.value, s.version = unseen, 0
		}
		id := fmt.Sprint(s.kind, s.expect)
		class, ok := classes[id]
		if !ok && len(classes) < maxClasses {
			class = len(classes) + 1
			classes[id] = class
		}
		if class == 0 || taken[class] > math.MaxUint8-1 {
			continue
		}
		s.class, s.rank = class, taken[class]
		taken[class]++
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
	if op.kind == theEnd {
		return "the end"
	}
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
