package liveness

import "time"

// State is how much a cluster counts as being there.
type State int

// The states, from good to bad; the zero value is of a cluster that was never in contact.
const (
	Unknown State = iota
	Healthy
	Suspect
	Unreachable
	FailoverEligible
)

// Stored is what the replicated state says.
type Stored struct {
	State State
	// Since is when the silence began, zero while there is none.
	Since time.Time
	// Coarse says that the control plane does not know Suspect and FailoverEligible yet.
	Coarse bool
}

// Sighting is what another node found that tried to reach the cluster.
type Sighting struct {
	At        time.Time
	Reachable bool
}

// Verdict is what a cluster counts as now.
type Verdict struct {
	State State
	// Since is when the silence began; zero for a cluster that is not away.
	Since time.Time
	// Word is what the other nodes say.
	Word Word
	// Next is when the verdict may change by time alone; zero if it does not, and for a
	// verdict that is to be stored first.
	Next time.Time
}

// Word sums up what other nodes say of a cluster that is away.
type Word int

// Nobody has tried lately, nobody who tried has reached it, somebody has.
const (
	None Word = iota
	Confirmed
	Contradicted
)

// Judge decides what a cluster counts as.
func (l Limits) Judge(stored Stored, own Contact, others []Sighting, now time.Time) Verdict {
	j := judgement{limits: l, stored: stored, own: own, now: now, word: l.Hear(others, now)}
	if own.Up {
		return j.present()
	}
	return j.absent()
}

// Hear sums up what other nodes say. What was said longer ago than Unreachable does not count.
func (l Limits) Hear(others []Sighting, now time.Time) Word {
	word := None
	for _, s := range others {
		switch {
		case now.Sub(s.At) > l.Unreachable:
		case s.Reachable:
			return Contradicted
		default:
			word = Confirmed
		}
	}
	return word
}

type judgement struct {
	limits Limits
	stored Stored
	own    Contact
	now    time.Time
	word   Word
	next   time.Time
}

// present judges a cluster that is in contact.
func (j *judgement) present() Verdict {
	steady := j.reached(j.own.Since, j.limits.Return)
	switch j.stored.State {
	case Unknown:
		return j.verdict(Healthy)
	case Healthy:
		if j.own.flaps() && !steady {
			return j.flapping(Healthy)
		}
		return j.verdict(Healthy)
	default:
		if steady {
			return j.verdict(Healthy)
		}
		if j.own.flaps() {
			return j.flapping(min(j.stored.State, Unreachable))
		}
		// What talks is not to be given up, though it is not to be relied upon.
		return j.verdict(min(j.stored.State, Unreachable))
	}
}

// absent judges a cluster that is not in contact.
func (j *judgement) absent() Verdict {
	l := &j.limits
	switch j.stored.State {
	case Unknown:
		if j.reached(j.own.Since, l.Unreachable) {
			return j.verdict(Unreachable)
		}
		return j.verdict(Unknown)
	case Healthy, Suspect:
		if j.own.flaps() {
			return j.flapping(j.stored.State)
		}
		if !j.reached(j.own.Since, l.Suspect) {
			return j.verdict(j.stored.State)
		}
		return j.step(j.stored.State)
	default:
		if j.eligible() {
			return j.verdict(FailoverEligible)
		}
		return j.verdict(Unreachable)
	}
}

// flapping judges a cluster that keeps coming and going: its silences are too short to
// count each, but it has not been in contact for long enough since the first of them.
func (j *judgement) flapping(state State) Verdict {
	if state == Unreachable {
		return j.verdict(Unreachable)
	}
	return j.step(state)
}

// step judges a cluster that is at least Suspect.
func (j *judgement) step(state State) Verdict {
	switch known := state == Suspect || j.stored.Coarse; {
	case known && j.away(j.limits.Unreachable):
		return j.verdict(Unreachable)
	case j.stored.Coarse:
		return j.verdict(state)
	default:
		return j.verdict(Suspect)
	}
}

func (j *judgement) eligible() bool {
	l := &j.limits
	if j.stored.Coarse || !j.away(l.Eligible) || !j.reached(j.own.Since, l.Unreachable) {
		return false
	}
	return j.word == Confirmed || j.word == None && l.Unconfirmed
}

// away reports that the silence has lasted for d. What this leader has seen itself counts by
// its own clock; what began under another leader may have been stamped by one that differs.
func (j *judgement) away(d time.Duration) bool {
	own := j.reached(j.own.First, d)
	return own || !j.stored.Since.IsZero() && j.reached(j.stored.Since, d+j.limits.Skew)
}

// reached reports that d has passed since at, and otherwise remembers when it will have.
func (j *judgement) reached(at time.Time, d time.Duration) bool {
	due := at.Add(d)
	if !j.now.Before(due) {
		return true
	}
	if j.next.IsZero() || due.Before(j.next) {
		j.next = due
	}
	return false
}

func (j *judgement) verdict(state State) Verdict {
	v := Verdict{State: state, Word: j.word}
	if state == j.stored.State {
		v.Next = j.next
	}
	switch state {
	case Suspect, Unreachable, FailoverEligible:
		v.Since = j.stored.Since
		if v.Since.IsZero() {
			v.Since = j.first()
		}
	case Unknown:
		v.Since = j.stored.Since
	case Healthy:
		v.Word = None
	}
	return v
}

// first is when this leader first missed the cluster, or found one that is known to be away.
func (j *judgement) first() time.Time {
	if j.own.First.IsZero() {
		return j.own.Since
	}
	return j.own.First
}
