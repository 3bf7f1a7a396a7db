package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/jepsen/history"
)

// Watch follows the stream of changes through random nodes. A stream that breaks off is
// taken up where it ended, at another node. One that cannot be, because the node has
// forgotten what came after, begins anew. Some streams are left on purpose.
type Watch struct {
	// Followers is how many there are; default 4. Each second one follows packages and the
	// audit log only.
	Followers int
	// StayFor is how long a follower stays with a node at most; default 5 s.
	StayFor time.Duration
}

// Name implements Workload.
func (Watch) Name() string { return history.Watch }

// watchSilence is how long a stream may bring nothing: more than three bookmarks.
const watchSilence = 15 * time.Second

// Run implements Workload.
func (w Watch) Run(ctx context.Context, env *Env) error {
	stay := w.StayFor
	if stay == 0 {
		stay = 5 * time.Second
	}
	paced := env.Paced(or(w.Followers, 4), 0)
	paced.run(ctx, w.Name(), func(p *process) func(context.Context) {
		f := &follower{p: p, stay: stay, from: client.FromNow}
		if p.place%2 == 1 {
			f.topics = []string{"packages", "audit"}
		}
		return f.step
	})
	return nil
}

// follower is somebody who wants to know of every change.
type follower struct {
	p      *process
	topics []string
	stay   time.Duration
	// from is where the next stream begins.
	from  string
	pause time.Duration
}

var errLeft = errors.New("the follower goes to another node")

// step follows one stream.
func (f *follower) step(ctx context.Context) {
	node := f.p.node()
	c, err := f.p.env.Client(node)
	if err != nil || !pause(ctx, f.pause) {
		return
	}
	stream, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	stay := f.stay/4 + time.Duration(f.p.rng.Int64N(int64(f.stay)))
	bored := time.AfterFunc(stay, func() { leave(errLeft) })
	defer bored.Stop()
	silent := time.AfterFunc(watchSilence, func() { leave(errLeft) })
	defer silent.Stop()
	f.pause = 50 * time.Millisecond
	err = c.Watch(stream, client.WatchQuery{From: f.from, Topics: f.topics}, func(m *client.Message) bool {
		silent.Reset(watchSilence)
		f.pause = 0
		f.take(node, m)
		return true
	}, func(why error) { leave(why) })
	var said *client.Error
	switch {
	case errors.As(err, &said) && said.Code == client.CodeCompacted:
		f.note(node, history.Compacted, err)
		f.from = client.FromSnapshot
	case ctx.Err() == nil:
		f.note(node, history.Broken, err)
	}
}

// take takes down a message, and where to go on after it.
func (f *follower) take(node string, m *client.Message) {
	out := history.Message{Follower: f.p.place, Topics: f.topics, Type: m.Type, Index: m.Index, Term: m.Term}
	if m.Type != history.Bookmark {
		out.Digest = digestOf(m)
	}
	if m.Type != history.Snapshot {
		f.from = strconv.FormatUint(m.Index, 10)
		for i := range m.Events {
			out.Events = append(out.Events, rowOf(&m.Events[i]))
		}
	}
	f.record(node, out, nil)
}

func (f *follower) note(node, what string, err error) {
	index, _ := strconv.ParseUint(f.from, 10, 64) // now and snapshot are no index, and 0 is none
	f.record(node, history.Message{Follower: f.p.place, Topics: f.topics, Type: what, Index: index}, err)
}

func (f *follower) record(node string, m history.Message, err error) {
	f.p.env.Recorder().Call(history.Operation{
		Process: f.p.id, Workload: f.p.workload, Kind: history.Follow, Node: node,
	})(func(op *history.Operation) {
		op.Outcome, op.Output, op.Index, op.Term = history.OK, m, m.Index, m.Term
		if err != nil {
			op.Error = err.Error()
		}
	})
}

func rowOf(e *client.Event) history.Row {
	row := history.Row{Topic: e.Topic, Key: e.Key, Name: e.Name, Deleted: e.Type == "delete"}
	if e.Topic == "audit" {
		var entry client.AuditEntry
		if err := json.Unmarshal(e.Object, &entry); err == nil {
			row.Action = entry.Action
		}
	}
	return row
}

// digestOf is one of what every follower must be told alike. A cluster's row also has what
// the node that serves the stream knows of it, which another one may not.
func digestOf(m *client.Message) string {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	part := func(v any) { _ = enc.Encode(v) } // a hash takes everything
	part(m.Operation)
	part(m.Time)
	for i := range m.Events {
		e := m.Events[i]
		if e.Topic == "clusters" {
			e.Object = nil
		}
		part(e)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
