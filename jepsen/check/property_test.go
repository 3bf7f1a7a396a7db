package check

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oaas.io/control-plane/jepsen/history"
)

// simulated is a correct register with a log, used by concurrent users: operations take
// effect one after the other, each at a moment within its call and answer.
type simulated struct {
	*tape
	t     *rapid.T
	state simState
	past  []simState
	index uint64
	now   int // the moment at which the next operation takes effect
	value int
	// width is how long an operation may take on either side of its moment.
	width int
	// told are the versions that somebody knows of: only those can be asked for.
	told map[uint64]bool
}

type simState struct {
	exists  bool
	value   string
	version uint64
	// acked says that the write which made it was acknowledged.
	acked bool
}

func newSimulated(t *rapid.T) *simulated {
	return &simulated{tape: newTape(history.Register), t: t, now: 1000, index: 1, width: 60, told: map[uint64]bool{}}
}

func (s *simulated) draw(low, high int) int { return rapid.IntRange(low, high).Draw(s.t, "n") }

// interval is around the moment of an operation, and may overlap those of many others.
func (s *simulated) interval() (call, ret int) {
	s.now += s.draw(1, 10)
	return s.now - s.draw(0, s.width), s.now + s.draw(0, s.width)
}

// gap lets everything that was asked be answered.
func (s *simulated) gap() { s.now += 200 }

func (s *simulated) steps(n int, unknown bool) {
	for range n {
		if s.draw(0, 2) == 0 {
			call, ret := s.interval()
			s.show(s.state, call, ret)
			continue
		}
		s.write(unknown && s.draw(0, 4) == 0)
	}
}

func (s *simulated) show(seen simState, call, ret int) int {
	s.told[seen.version] = true
	return s.read("k", seen.value, seen.version, s.index, call, ret)
}

// write carries out any write; lost says that nobody is told what became of it.
func (s *simulated) write(lost bool) {
	call, ret := s.interval()
	kind := rapid.SampledFrom([]string{history.Create, history.Write, history.CAS, history.Delete, history.Put}).Draw(s.t, "kind")
	request := history.Request{}
	if kind != history.Delete {
		s.value++
		request.Value = fmt.Sprint("v", s.value)
	}
	if kind == history.CAS {
		request.Version = 1 // of nothing
		if s.told[s.state.version] && s.draw(0, 3) > 0 {
			request.Version = s.state.version
		}
	}
	code := s.refusal(kind, request)
	o := history.Operation{Kind: kind, Key: "k", Input: request}
	if code == "" && (!lost || s.draw(0, 1) == 0) {
		s.index += uint64(s.draw(1, 3))
		s.past = append(s.past, s.state)
		s.state = simState{}
		if kind != history.Delete {
			s.state = simState{exists: true, value: request.Value, version: s.index}
		}
		s.state.acked = !lost
		s.told[s.index] = !lost
		o.Outcome, o.Index, o.Command = history.OK, s.index, true
		o.Output = history.Answer{Version: s.state.version}
	} else if code != "" {
		o.Outcome, o.Output = history.Failed, history.Answer{Code: code}
	}
	if lost {
		o.Outcome, o.Index, o.Command, o.Output = history.Unknown, 0, false, nil
	}
	s.op(o, call, ret)
}

func (s *simulated) refusal(kind string, r history.Request) string {
	switch {
	case kind == history.Create && s.state.exists:
		return history.RefusedPrecondition
	case kind == history.Create, kind == history.Put:
		return ""
	case !s.state.exists:
		return history.RefusedNotFound
	case kind == history.CAS && r.Version != s.state.version:
		return history.RefusedPrecondition
	default:
		return ""
	}
}

// acknowledge writes a value and is answered.
func (s *simulated) acknowledge(apply bool) (string, uint64, int) {
	call, ret := s.interval()
	s.value++
	value := fmt.Sprint("v", s.value)
	s.index++
	s.told[s.index] = true
	id := s.did(history.Put, "k", value, s.index, call, ret)
	if apply {
		s.past = append(s.past, s.state)
		s.state = simState{exists: true, value: value, version: s.index, acked: true}
	}
	return value, s.index, id
}

func TestSimulatedRegistersAreAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulated(t)
		s.steps(s.draw(1, 40), true)
		if v := judged1(s.tape); !v.OK {
			t.Fatalf("%v\n%v", v, s.h.Operations)
		}
		if v := LogOrder(s.h, nil); !v.OK {
			t.Fatalf("%v\n%v", v, s.h.Operations)
		}
		if v := Sessions(s.h, 0); !v.OK {
			t.Fatal(v)
		}
	})
}

// rejected fails unless both checkers, or the one of them that can, see it.
func (s *simulated) rejected(what string) {
	if v := judged1(s.tape); v.OK {
		s.t.Fatalf("%s was not seen in the history: %v", what, s.h.Operations)
	}
	if v := LogOrder(s.h, nil); v.OK {
		s.t.Fatalf("%s was not seen in the log: %v", what, s.h.Operations)
	}
}

func TestALostWriteIsRejected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulated(t)
		s.steps(s.draw(0, 20), false)
		s.acknowledge(false)
		s.gap()
		call, ret := s.interval()
		s.show(s.state, call, ret)
		s.gap()
		s.steps(s.draw(0, 20), false)
		s.rejected("a lost write")
	})
}

func TestAStaleReadIsRejected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulated(t)
		s.steps(s.draw(1, 20), true)
		s.acknowledge(true)
		s.acknowledge(true)
		s.gap()
		// Any earlier state that was there, or the one before the last write.
		old := s.past[len(s.past)-1]
		if i := s.draw(0, len(s.past)-1); s.past[i].exists && s.past[i].acked {
			old = s.past[i]
		}
		call, ret := s.interval()
		s.show(old, call, ret)
		s.gap()
		s.steps(s.draw(0, 20), true)
		s.rejected("a stale read")
	})
}

func TestADoubleEffectIsRejected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulated(t)
		s.steps(s.draw(0, 20), true)
		value, _, _ := s.acknowledge(true)
		s.acknowledge(true)
		s.gap()
		s.index++ // the first one takes effect again
		s.state = simState{exists: true, value: value, version: s.index}
		call, ret := s.interval()
		s.show(s.state, call, ret)
		s.rejected("a double effect")
	})
}

// At the sizes that workloads make, a key is decided in a moment.
func TestKeysOfWorkloadsAreDecided(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulated(t)
		s.width = 20 // some five at a time, who share a key
		s.steps(50, false)
		for range s.draw(5, 40) { // a partition
			s.write(true)
			s.steps(s.draw(0, 3), false)
		}
		s.steps(20, false)
		v := Linearizable(s.h, LinearizableOptions{Timeout: 10 * time.Second})
		if !v.OK {
			t.Fatal(v)
		}
	})
}
