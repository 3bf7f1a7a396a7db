package api

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// keptLogLines is how many lines a LogBuffer remembers.
	keptLogLines = 2048
	// maxLogFollowers bounds those who read along at the same time.
	maxLogFollowers = 16
	// followerLines is how many lines a follower may be behind before it loses some.
	followerLines = 1024
	// maxLogText and maxLogFields bound one line: bytes of a text, fields.
	maxLogText, maxLogFields = 4096, 32
)

// LogLine is one line of a node's log.
type LogLine struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	// Subsystem is the dotted name of the logger, for instance pmd.raft.snapshot.
	Subsystem string            `json:"subsystem"`
	Message   string            `json:"message"`
	Fields    map[string]string `json:"fields,omitempty"`

	level hclog.Level
}

// LogBuffer is a log sink that remembers the newest lines and passes them on to
// followers. It never makes a logger wait: a follower that is too slow loses
// lines and is told how many. It is safe for concurrent use.
type LogBuffer struct {
	now func() time.Time
	// keep is the lowest level that is remembered.
	keep hclog.Level
	// lowest is the lowest level that anybody wants: what is below costs nothing.
	lowest atomic.Int32

	mu        sync.Mutex
	ring      []LogLine
	next      int // where the next line goes once the ring is full
	followers map[*logFollower]struct{}
}

var _ hclog.SinkAdapter = (*LogBuffer)(nil)

// NewLogBuffer makes a sink that remembers lines of at least that level.
func NewLogBuffer(keep hclog.Level) *LogBuffer {
	b := &LogBuffer{now: time.Now, keep: keep, followers: map[*logFollower]struct{}{}}
	b.lowest.Store(int32(keep))
	return b
}

// logFollower is one reader of the log.
type logFollower struct {
	filter logFilter
	lines  chan LogLine
	lost   atomic.Uint64
}

// logFilter says which lines somebody wants.
type logFilter struct {
	level hclog.Level
	// subsystem is a dotted name or a part of one; empty means all.
	subsystem string
}

func (f logFilter) matches(l *LogLine) bool {
	if l.level < f.level {
		return false
	}
	return f.subsystem == "" || strings.Contains("."+l.Subsystem+".", "."+f.subsystem+".")
}

// Accept takes a line from a logger.
func (b *LogBuffer) Accept(name string, level hclog.Level, msg string, args ...any) {
	if int32(level) < b.lowest.Load() {
		return
	}
	line := LogLine{Time: b.now(), Level: level.String(), Subsystem: name, Message: clipText(msg), Fields: logFields(args), level: level}
	b.mu.Lock()
	defer b.mu.Unlock()
	if level >= b.keep {
		if len(b.ring) < keptLogLines {
			b.ring = append(b.ring, line)
		} else {
			b.ring[b.next] = line
			b.next = (b.next + 1) % keptLogLines
		}
	}
	for f := range b.followers {
		if !f.filter.matches(&line) {
			continue
		}
		select {
		case f.lines <- line:
		default:
			f.lost.Add(1)
		}
	}
}

// last gives the newest lines that match, oldest first, and, when follow is set,
// a follower of those that come after them. A follower must be given to leave.
// It is nil when there are too many already.
func (b *LogBuffer) last(filter logFilter, most int, follow bool) ([]LogLine, *logFollower) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []LogLine
	for i := range b.ring {
		line := &b.ring[(b.next+i)%len(b.ring)]
		if filter.matches(line) {
			out = append(out, *line)
		}
	}
	out = out[max(0, len(out)-most):]
	if !follow || len(b.followers) >= maxLogFollowers {
		return out, nil
	}
	f := &logFollower{filter: filter, lines: make(chan LogLine, followerLines)}
	b.followers[f] = struct{}{}
	b.settle()
	return out, f
}

func (b *LogBuffer) leave(f *logFollower) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.followers, f)
	b.settle()
}

// settle finds the lowest level that anybody wants. b.mu is held.
func (b *LogBuffer) settle() {
	lowest := b.keep
	for f := range b.followers {
		lowest = min(lowest, f.filter.level)
	}
	b.lowest.Store(int32(lowest))
}

// logFields makes texts of a line's pairs at once: what they refer to may change.
func logFields(args []any) map[string]string {
	if len(args) == 0 {
		return nil
	}
	out := make(map[string]string, len(args)/2)
	for pair := range slices.Chunk(args, 2) {
		if len(out) == maxLogFields {
			break
		}
		if len(pair) == 1 {
			out["EXTRA_VALUE_AT_END"] = fieldText(pair[0])
			break
		}
		out[clipText(fmt.Sprint(pair[0]))] = fieldText(pair[1])
	}
	return out
}

func fieldText(v any) string {
	switch v := v.(type) {
	case string:
		return clipText(v)
	case hclog.Format:
		if len(v) > 0 {
			if format, ok := v[0].(string); ok {
				return clipText(fmt.Sprintf(format, v[1:]...))
			}
		}
	case func() string:
		return clipText(v())
	}
	return clipText(fmt.Sprint(v))
}

func clipText(s string) string {
	if len(s) <= maxLogText {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogText], "") + "…"
}
