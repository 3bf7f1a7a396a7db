package netlab

import (
	"fmt"
	"slices"
)

// rule is what happens to the packets of a pair that have one of the ports; all, if there are none.
type rule struct {
	ports []uint16
	cut   bool
	shape Shape
	// lane is the state of a shape, which packets of one rule share.
	lane *lane
}

// same reports whether another rule is about the same packets and of the same kind.
func (r *rule) same(o *rule) bool { return r.cut == o.cut && slices.Equal(r.ports, o.ports) }

// wildcard is a rule that was made for hosts that may still come.
type wildcard struct {
	from, to string
	rule     rule
}

// Cut loses all packets from one host to another, in that direction alone. With ports, it loses those that come from or go
// to one of them. Both names may be Any, which includes hosts that are added later.
func (l *Lab) Cut(from, to string, ports ...int) error {
	r, err := newRule(ports)
	if err != nil {
		return err
	}
	r.cut = true
	return l.rule(from, to, r)
}

// Shape makes the way from one host to another worse, beside what other rules do to it. It replaces what an earlier Shape
// did for the same names and ports; the zero Shape ends that.
func (l *Lab) Shape(from, to string, shape Shape, ports ...int) error {
	r, err := newRule(ports)
	if err != nil {
		return err
	}
	if shape.Delay < 0 || shape.Jitter < 0 || shape.Loss < 0 || shape.Loss > 1 || shape.Rate < 0 {
		return fmt.Errorf("shape %+v: nothing may be negative, and loss at most 1", shape)
	}
	r.shape = shape
	return l.rule(from, to, r)
}

func newRule(ports []int) (rule, error) {
	var r rule
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return r, fmt.Errorf("port %d: want 1 to 65535", p)
		}
		r.ports = append(r.ports, uint16(p))
	}
	slices.Sort(r.ports)
	return r, nil
}

// rule adds a rule to all pairs that are named.
func (l *Lab) rule(from, to string, r rule) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.knownLocked(from, to); err != nil {
		return err
	}
	for _, link := range l.matchLocked(from, to) {
		link.add(r)
	}
	if from == Any || to == Any {
		l.rules = slices.DeleteFunc(l.rules, func(w wildcard) bool { return w.from == from && w.to == to && w.rule.same(&r) })
		l.rules = append(l.rules, wildcard{from, to, r})
	}
	return nil
}

// Heal ends all rules of a pair, in that direction alone. With Any it ends those of all pairs that are meant.
func (l *Lab) Heal(from, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.knownLocked(from, to); err != nil {
		return err
	}
	for _, link := range l.matchLocked(from, to) {
		link.heal()
	}
	l.rules = slices.DeleteFunc(l.rules, func(w wildcard) bool {
		return (from == Any || w.from == from) && (to == Any || w.to == to)
	})
	return nil
}

// HealAll ends all rules.
func (l *Lab) HealAll() { _ = l.Heal(Any, Any) } // only names can be wrong

// Counts tells what went from one host to another.
func (l *Lab) Counts(from, to string) (Counts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.knownLocked(from, to); err != nil {
		return Counts{}, err
	}
	var sum Counts
	for _, link := range l.matchLocked(from, to) {
		c := link.counts()
		sum.Packets, sum.Bytes, sum.Lost = sum.Packets+c.Packets, sum.Bytes+c.Bytes, sum.Lost+c.Lost
	}
	return sum, nil
}

func (l *Lab) knownLocked(names ...string) error {
	for _, name := range names {
		if name != Any && l.findLocked(name) == nil {
			return fmt.Errorf("%w: %s", ErrUnknownHost, name)
		}
	}
	return nil
}

// matchLocked gives the ways between different hosts that are meant by two names.
func (l *Lab) matchLocked(from, to string) []*link {
	var out []*link
	for _, f := range l.hosts {
		if f == nil || (from != Any && f.name != from) {
			continue
		}
		for _, t := range l.hosts {
			if t != nil && t != f && (to == Any || t.name == to) {
				out = append(out, f.waysLocked()[t.index])
			}
		}
	}
	return out
}
