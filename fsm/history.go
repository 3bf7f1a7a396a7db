package fsm

import (
	"fmt"
	"iter"
	"slices"
	"sort"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// Bounds of what a state remembers of its past, for those who follow it. They are
// this process's own.
const (
	maxPastEvents = 32 << 10
	// maxPastBytes bounds the encoded commands behind those events: they stand for
	// the rows that would otherwise be gone.
	maxPastBytes = 32 << 20
	// maxPortion bounds the encoded commands of the changes that are given at once:
	// whoever passes them on slowly holds them meanwhile.
	maxPortion = 1 << 20
)

// observable are the tables whose changes can be followed.
var observable = [len(tables)]bool{
	atPackages: true, atDeployments: true, atPlans: true, atUnits: true, atClusters: true, atMembers: true,
	atDeletions: true, atAutopilot: true, atAlarms: true, atAudit: true, atRollouts: true,
}

// Topics are the names of the tables whose changes can be followed.
func Topics() []string {
	var out []string
	for i, name := range tables {
		if observable[i] {
			out = append(out, name)
		}
	}
	return out
}

// Change is what one command has changed. It is immutable.
type Change struct {
	Index, Term uint64
	// Time is when the command was proposed; zero when it does not tell.
	Time time.Time
	// Operation is the command's, by its name in pmpb.Command.
	Operation string
	RequestID string
	Principal string
	// Events are the rows that it wrote, each once, without those of tables that
	// cannot be followed.
	Events []Event
	bytes  int
}

// Event is one row that was written or removed.
type Event struct {
	// Topic is the name of the table.
	Topic string
	// Key is the row's primary key.
	Key string
	// About is what people call the object that the row belongs to: the key of the
	// deployment for plans, units, deletions and rollouts, the object of an audit entry, else
	// the name of the row itself.
	About string
	// Row is shared and must not be written to. It is nil when the row was removed.
	Row any
}

// CompactedError says that changes that somebody wants to follow are forgotten.
type CompactedError struct {
	// Oldest is the lowest index after which all changes are remembered.
	Oldest uint64
}

func (e *CompactedError) Error() string {
	return fmt.Sprintf("fsm: the changes up to index %d are not remembered", e.Oldest)
}

// past is the changes that are remembered, the oldest first.
type past struct {
	// complete is the index after which no change is missing.
	complete      uint64
	changes       []*Change
	events, bytes int
}

// add takes changes that follow, and forgets the oldest for them. A command that
// changes more than is remembered is forgotten at once, with all before it.
func (p *past) add(changes []*Change) {
	for _, ch := range changes {
		p.changes = append(p.changes, ch)
		p.events += len(ch.Events)
		p.bytes += ch.bytes
		for p.events > maxPastEvents || p.bytes > maxPastBytes {
			p.forget()
		}
	}
}

func (p *past) forget() {
	oldest := p.changes[0]
	p.complete = oldest.Index
	p.events -= len(oldest.Events)
	p.bytes -= oldest.bytes
	p.changes[0] = nil
	p.changes = p.changes[1:]
}

// after gives up to most changes, or those that make a portion, but one at least if
// there is any. It reports that there is no other one.
func (p *past) after(index uint64, most int) ([]*Change, bool, error) {
	if index < p.complete {
		return nil, false, &CompactedError{Oldest: p.complete}
	}
	from := sort.Search(len(p.changes), func(i int) bool { return p.changes[i].Index > index })
	rest := p.changes[from:]
	n, size := 0, 0
	for n < min(most, len(rest)) && (n == 0 || size+rest[n].bytes <= maxPortion) {
		size += rest[n].bytes
		n++
	}
	return slices.Clone(rest[:n]), n == len(rest), nil
}

// ChangesAfter gives up to most of the changes that follow an index, fewer when they
// are large, in the order of the log, and the index up to which there is no other one. The error is a
// *CompactedError when some are forgotten. An index ahead of the state has none.
func (s *State) ChangesAfter(index uint64, most int) (changes []*Change, upTo uint64, err error) {
	p := s.publisher
	p.mu.RLock()
	defer p.mu.RUnlock()
	changes, all, err := p.past.after(index, most)
	switch {
	case err != nil:
		return nil, 0, err
	case all:
		return changes, max(index, (&Snapshot{store: p.newest}).Index()), nil
	default:
		return changes, changes[len(changes)-1].Index, nil
	}
}

// OldestChange is the lowest index after which all changes are remembered.
func (s *State) OldestChange() uint64 {
	s.publisher.mu.RLock()
	defer s.publisher.mu.RUnlock()
	return s.publisher.past.complete
}

// Rows gives all rows of a topic by key, each as the event of its last change.
func (s *Snapshot) Rows(name string) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		table := slices.Index(tables[:], name)
		if table < 0 || !observable[table] {
			return
		}
		for row := range s.store.tables[table].rows() {
			if !yield(eventOf(table, row)) {
				return
			}
		}
	}
}

// changeOf sums up what a command has written.
func changeOf(c *call, e Entry, written []writing) *Change {
	ch := &Change{Index: e.Index, Term: e.Term, RequestID: c.cmd.GetRequestId(), Principal: c.cmd.GetPrincipal()}
	places := map[rowID]int{}
	for _, w := range written {
		if !observable[w.table] {
			continue
		}
		event := eventOf(w.table, w.either())
		if w.row == nil {
			event.Row = nil
		}
		id := rowID{w.table, event.Key}
		if at, again := places[id]; again {
			ch.Events[at] = event
			continue
		}
		places[id] = len(ch.Events)
		ch.Events = append(ch.Events, event)
	}
	if len(ch.Events) == 0 {
		return nil
	}
	if at := c.cmd.GetLeaderTime(); at != nil {
		ch.Time = at.AsTime()
	}
	ch.Operation = operationName(c.cmd)
	ch.bytes = len(e.Data) + c.unpacked
	return ch
}

// rowID names a row of any table.
type rowID struct {
	table int
	key   string
}

// either gives the row that was written, or the one that was removed.
func (w *writing) either() any {
	if w.row != nil {
		return w.row
	}
	return w.old
}

func eventOf(table int, row any) Event {
	key, about := nameOf(row)
	return Event{Topic: tables[table], Key: key, About: about, Row: row}
}

// nameOf gives the primary key of a row, and what people call what it is about.
func nameOf(row any) (key, about string) {
	named := func(name string) (string, string) { return name, name }
	switch row := row.(type) {
	case *Package:
		return named(row.Doc.Name)
	case *Deployment:
		return named(row.Doc.Key)
	case *Plan:
		return named(row.DeploymentKey)
	case *pmpb.Unit:
		return row.GetId(), row.GetDeploymentKey()
	case *pmpb.Cluster:
		return named(row.GetName())
	case *pmpb.Rollout:
		return named(row.GetDeploymentKey())
	case *pmpb.Member:
		return row.GetServerId(), row.GetName()
	case *pmpb.Deletion:
		return row.GetDeploymentUid(), row.GetDeploymentKey()
	case *pmpb.Autopilot:
		return named(autopilotKey)
	case *pmpb.Alarm:
		return alarmKey(row.GetKey()), row.GetKey().GetServerId()
	case *pmpb.AuditEntry:
		return auditKey(row.GetIndex()), row.GetNote().GetObject()
	default:
		return "", ""
	}
}
