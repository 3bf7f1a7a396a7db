package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oaas.io/control-plane/jepsen/history"
)

// Streams says whether every follower saw every change, once, in the order of the log, and
// whether all were told the same. What there was to see is what any follower saw, and every
// write that was acknowledged.
func Streams(h history.History) Verdict {
	f := newFindings("watch")
	followers, err := followersOf(f, h)
	if err != nil {
		return broken(f.name, err)
	}
	f.count("followers", len(followers))
	all := changesOf(f, followers)
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Outcome == history.OK && op.Command && op.Index > 0 && all[op.Index] == nil {
			all[op.Index] = &change{index: op.Index, op: op.ID, acknowledged: true}
		}
	}
	indexes := slices.Sorted(maps.Keys(all))
	for _, fl := range followers {
		for _, s := range fl.stretches {
			f.count("stretches", 1)
			s.gaps(f, fl, all, indexes)
		}
	}
	return f.verdict()
}

// change is a command that somebody was told of.
type change struct {
	index  uint64
	op     int
	topics []string
	// digest of what was told, by the topics that the follower had asked for.
	digest map[string]string
	// acknowledged says that it is known from its answer only.
	acknowledged bool
}

// follower is one who follows, over all streams.
type follower struct {
	id        int
	topics    []string
	stretches []*stretch
	open      *stretch
}

// stretch is a part of the log of which a follower was told without a break that it knows of:
// what comes after from, up to and with last.
type stretch struct {
	from, last uint64
	changes    []told
}

// told is a change as one follower was told of it.
type told struct {
	op int
	m  history.Message
}

func followersOf(f *findings, h history.History) ([]*follower, error) {
	byID := map[int]*follower{}
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Kind != history.Follow {
			continue
		}
		m, err := history.As[history.Message](op.Output)
		if err != nil {
			return nil, fmt.Errorf("check: operation %d: %w", op.ID, err)
		}
		fl := byID[m.Follower]
		if fl == nil {
			fl = &follower{id: m.Follower, topics: m.Topics}
			byID[m.Follower] = fl
		}
		fl.take(f, op.ID, m)
	}
	out := []*follower{}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, byID[id])
	}
	return out, nil
}

func (fl *follower) key() string { return fmt.Sprintf("follower %d", fl.id) }

func (fl *follower) take(f *findings, op int, m history.Message) {
	wrong := func(what string) {
		f.violation(Violation{What: what, Key: fl.key(), Operations: []int{op}, Detail: fmt.Sprintf("index %d after %d", m.Index, fl.open.last)})
	}
	switch m.Type {
	case history.Compacted:
		f.count("forgotten pasts", 1)
		fl.open = nil
		return
	case history.Broken:
		f.count("broken streams", 1)
		return
	case history.Snapshot:
		// Nothing of a snapshot counts before it has ended, and then the stretch is from there.
		fl.begin(m.Index)
		return
	}
	if fl.open == nil {
		from := m.Index
		if m.Type == history.Change {
			from--
		}
		fl.begin(from)
	}
	switch {
	case m.Type == history.Bookmark && m.Index < fl.open.last:
		wrong("bookmark goes back")
	case m.Type == history.Bookmark:
		f.count("bookmarks", 1)
		fl.open.last = m.Index
	case m.Index <= fl.open.last:
		if slices.ContainsFunc(fl.open.changes, func(t told) bool { return t.m.Index == m.Index }) {
			wrong("change told twice")
			return
		}
		wrong("change out of order")
	default:
		f.count("changes", 1)
		fl.open.last = m.Index
		fl.open.changes = append(fl.open.changes, told{op, m})
	}
}

func (fl *follower) begin(from uint64) {
	if fl.open != nil && len(fl.open.changes) == 0 && fl.open.last == fl.open.from {
		fl.open.from, fl.open.last = from, from
		return
	}
	fl.open = &stretch{from: from, last: from}
	fl.stretches = append(fl.stretches, fl.open)
}

// changesOf is all that any follower was told of, and checks that they were told the same.
func changesOf(f *findings, followers []*follower) map[uint64]*change {
	all := map[uint64]*change{}
	for _, fl := range followers {
		kind := strings.Join(fl.topics, ",")
		for _, s := range fl.stretches {
			for _, t := range s.changes {
				c := all[t.m.Index]
				if c == nil {
					c = &change{index: t.m.Index, op: t.op, digest: map[string]string{}}
					all[t.m.Index] = c
				}
				for _, row := range t.m.Events {
					if !slices.Contains(c.topics, row.Topic) {
						c.topics = append(c.topics, row.Topic)
					}
				}
				switch have, ok := c.digest[kind]; {
				case !ok:
					c.digest[kind] = t.m.Digest
				case have != t.m.Digest:
					f.violation(Violation{
						What: "followers were told differently", Key: fmt.Sprintf("index %d", c.index), Operations: []int{c.op, t.op},
						Detail: fmt.Sprintf("%s was told %s, another one %s", fl.key(), t.m.Digest, have),
					})
				}
			}
		}
	}
	return all
}

// gaps looks for what the follower should have been told of.
func (s *stretch) gaps(f *findings, fl *follower, all map[uint64]*change, indexes []uint64) {
	at, _ := slices.BinarySearch(indexes, s.from+1)
	next := 0
	for _, index := range indexes[at:] {
		if index > s.last {
			return
		}
		for next < len(s.changes) && s.changes[next].m.Index < index {
			next++
		}
		if next < len(s.changes) && s.changes[next].m.Index == index {
			continue
		}
		c := all[index]
		if len(fl.topics) > 0 && !slices.ContainsFunc(c.topics, func(t string) bool { return slices.Contains(fl.topics, t) }) {
			continue // not about what it follows, as far as anybody was told
		}
		what := "gap"
		if c.acknowledged {
			what = "acknowledged write not told of"
		}
		f.violation(Violation{
			What: what, Key: fl.key(), Operations: []int{c.op},
			Detail: fmt.Sprintf("index %d is missing between %d and %d", index, s.from, s.last),
		})
	}
}

// effectsOf gives the commands that took effect as followers were told of them, by index.
func effectsOf(h history.History) (map[uint64]history.Effect, error) {
	out := map[uint64]history.Effect{}
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Kind != history.Follow {
			continue
		}
		m, err := history.As[history.Message](op.Output)
		if err != nil {
			return nil, fmt.Errorf("check: operation %d: %w", op.ID, err)
		}
		for _, row := range m.Events {
			if row.Topic == "audit" && row.Action != "" {
				out[m.Index] = history.Effect{Index: m.Index, Action: row.Action, Object: cmp.Or(row.Name, row.Key)}
			}
		}
	}
	return out, nil
}
