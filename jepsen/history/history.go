package history

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Outcome is what is known of an operation.
type Outcome string

// Outcomes.
const (
	// OK: it took effect, and its answer is known.
	OK Outcome = "ok"
	// Failed: it is certain that it had and will have no effect.
	Failed Outcome = "failed"
	// Unknown: it may have had an effect, or may still have one at any later time.
	Unknown Outcome = "unknown"
)

// Operation is one request of a workload. A process has one at a time.
type Operation struct {
	ID       int    `json:"id"`
	Process  int    `json:"process"`
	Workload string `json:"workload"`
	// Kind says what is done (read, write, cas, ...), Key to what.
	Kind string `json:"kind"`
	Key  string `json:"key,omitempty"`
	// Node is who was asked; ServedBy, Index and Term are what the answer says.
	Node     string `json:"node,omitempty"`
	ServedBy string `json:"served_by,omitempty"`
	Index    uint64 `json:"index,omitempty"`
	Term     uint64 `json:"term,omitempty"`
	// Leader is who leads in Term, as the answer says.
	Leader string `json:"leader,omitempty"`
	// Command says that Index is that of the command by which this operation took effect,
	// and not just of the state at that time.
	Command bool `json:"command,omitempty"`
	// Input and Output are a Request and an Answer, or what the Kind says.
	Input   any           `json:"input,omitempty"`
	Output  any           `json:"output,omitempty"`
	Outcome Outcome       `json:"outcome"`
	Error   string        `json:"error,omitempty"`
	Call    time.Duration `json:"call"`
	Return  time.Duration `json:"return"`
}

// EventKind is what an event is about.
type EventKind string

// Kinds of events.
const (
	// Fault: something was broken from At to End.
	Fault EventKind = "fault"
	// Leader: a node was seen to lead from At on.
	Leader EventKind = "leader"
	// Note: anything else that a reader of the report wants to see.
	Note EventKind = "note"
)

// Event is what happened beside the operations.
type Event struct {
	Kind  EventKind     `json:"kind"`
	Name  string        `json:"name"`
	Nodes []string      `json:"nodes,omitempty"`
	Text  string        `json:"text,omitempty"`
	Term  uint64        `json:"term,omitempty"`
	At    time.Duration `json:"at"`
	// End is zero while it lasts, and for what has no length.
	End time.Duration `json:"end,omitempty"`
}

// History is the record of a run. Operations are in the order of their calls.
type History struct {
	Operations []Operation `json:"operations"`
	Events     []Event     `json:"events"`
}

// Recorder takes down a history. It is safe for concurrent use.
type Recorder struct {
	began time.Time

	mu     sync.Mutex
	ops    []Operation
	events []Event
}

// NewRecorder begins a history now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Now is the time since the history began.
func (r *Recorder) Now() time.Duration { return time.Since(r.began) }

// Call takes down an operation that is about to be sent, with the outcome Unknown. The
// returned function takes down its answer; it is called once at most, and for an
// operation that is never answered not at all.
func (r *Recorder) Call(op Operation) (answer func(edit func(*Operation))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.ID, op.Call, op.Outcome = len(r.ops), r.Now(), Unknown
	r.ops = append(r.ops, op)
	return func(edit func(*Operation)) {
		now := r.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		edit(&r.ops[op.ID])
		r.ops[op.ID].Return = now
	}
}

// Since is a copy of the operations that were taken down after the first n, as far as they are known by now.
func (r *Recorder) Since(n int) []Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops[min(n, len(r.ops)):])
}

// Event takes down what happens now. The returned function takes down its end.
func (r *Recorder) Event(e Event) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = r.Now()
	at := len(r.events)
	r.events = append(r.events, e)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events[at].End = r.Now()
	}
}

// History is a copy of what was taken down so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{Operations: slices.Clone(r.ops), Events: slices.Clone(r.events)}
}

// Write writes a history as lines of JSON, one operation or event each.
func (h History) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	for i := range h.Operations {
		if err := enc.Encode(map[string]any{"operation": h.Operations[i]}); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	for i := range h.Events {
		if err := enc.Encode(map[string]any{"event": h.Events[i]}); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}
