package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Places where a watch can begin, beside an index.
const (
	FromNow      = "now"
	FromSnapshot = "snapshot"
	FromOldest   = "oldest"
)

// CodeCompacted is the code of a watch that asks for what is forgotten.
const CodeCompacted = "compacted"

// WatchQuery says what is followed.
type WatchQuery struct {
	// From is FromNow, FromSnapshot, FromOldest or an index. Default FromNow.
	From string
	// Topics are topics, or topic:name with a * at the end for any rest. Empty: all.
	Topics []string
	// Node serves the stream; empty is any.
	Node string
	// MaxStaleness, when not 0, ends the stream of a node whose state may be older; another
	// one goes on.
	MaxStaleness time.Duration
	// Stale lets the beginning be what the node has.
	Stale bool
}

// Message is one message of a watch.
type Message struct {
	// Type is change, snapshot or bookmark.
	Type string `json:"type"`
	// Index is where a watch can be taken up after a change or a bookmark.
	Index     uint64    `json:"index"`
	Term      uint64    `json:"term,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Operation string    `json:"operation,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Principal string    `json:"principal,omitempty"`
	// LastContact is the age of the leader's last message, in milliseconds.
	LastContact *int64  `json:"last_contact_ms,omitempty"`
	Events      []Event `json:"events,omitempty"`
}

// Event is one row that was written or removed.
type Event struct {
	Topic string `json:"topic"`
	// Type is put or delete.
	Type string `json:"type"`
	Key  string `json:"key"`
	// Name is what the row is about where that is not its key.
	Name       string          `json:"name,omitempty"`
	UID        string          `json:"uid,omitempty"`
	Generation uint64          `json:"generation,omitempty"`
	Object     json.RawMessage `json:"object,omitempty"`
}

// streamEnd is the last message of a stream that a server ends.
type streamEnd struct {
	Status      int    `json:"status"`
	Code        string `json:"code"`
	Detail      string `json:"detail"`
	Retryable   bool   `json:"retryable"`
	OldestIndex uint64 `json:"oldest_index"`
}

// Watch follows the state until yield returns false, ctx ends or what is to come is
// forgotten (an *Error with CodeCompacted). A stream that breaks off is taken up where
// it ended, on another server if there is one; lost, unless it is nil, is told why. A
// snapshot that breaks off begins anew.
// The error after Options.RetryFor without any server is an *UnreachableError.
func (c *Client) Watch(ctx context.Context, query WatchQuery, yield func(*Message) bool, lost func(error)) error {
	w := &watcher{c: c, query: query, yield: yield, from: query.From}
	if w.from == "" {
		w.from = FromNow
	}
	for {
		err := w.follow(ctx)
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if w.final(err) {
			return err
		}
		if lost != nil {
			lost(err)
		}
		switch {
		case w.moved || w.silentSince.IsZero():
			w.silentSince, w.moved = time.Now(), false
		case time.Since(w.silentSince) > c.opts.RetryFor:
			return err
		}
		c.moveOn()
		if err := sleep(ctx, c.opts.BackoffMin); err != nil {
			return err
		}
	}
}

// final reports that no server will answer otherwise. That there is no such route is
// what a server of an older release says, and another one may know it.
func (w *watcher) final(err error) bool {
	var said *Error
	if !errors.As(err, &said) || said.Retryable {
		return false
	}
	return said.Status != http.StatusNotFound || w.query.Node != ""
}

// moveOn has the next attempt made with another server.
func (c *Client) moveOn() {
	at := c.current.Load()
	c.current.CompareAndSwap(at, (at+1)%uint32(len(c.servers)))
}

// watcher is a watch over all the streams that it takes.
type watcher struct {
	c     *Client
	query WatchQuery
	yield func(*Message) bool
	// from is where the next stream begins.
	from string
	// moved says that a message came since silentSince, when a stream broke off.
	moved       bool
	silentSince time.Time
}

// follow reads one stream. It gives nil when yield has seen enough.
func (w *watcher) follow(ctx context.Context) error {
	q := url.Values{"from": {w.from}}
	if len(w.query.Topics) > 0 {
		q.Set("topics", strings.Join(w.query.Topics, ","))
	}
	if w.query.Node != "" {
		q.Set("node", w.query.Node)
	}
	if w.query.Stale {
		q.Set("consistency", "stale")
	}
	if w.query.MaxStaleness > 0 {
		q.Set("max_staleness", w.query.MaxStaleness.String())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The beginning may have to wait for a leader, as an answer may.
	quiet := time.AfterFunc(max(w.c.opts.StreamSilence, w.c.opts.AttemptTimeout), func() { cancel(errQuiet) })
	defer quiet.Stop()
	enough := false
	var ended error
	err := lines(ctx, w.c, path("watch"), q, func(raw json.RawMessage) bool {
		quiet.Stop() // whoever takes the message may take its time
		defer quiet.Reset(w.c.opts.StreamSilence)
		var m Message
		if ended = json.Unmarshal(raw, &m); ended != nil {
			return false
		}
		if m.Type == "error" {
			ended = endOf(raw)
			return false
		}
		w.moved = true
		if m.Type != "snapshot" {
			w.from = strconv.FormatUint(m.Index, 10)
		}
		enough = !w.yield(&m)
		return !enough
	})
	switch {
	case enough:
		return nil
	case ended != nil:
		return ended
	case errors.Is(context.Cause(ctx), errQuiet):
		err = errQuiet
	case err == nil:
		err = errors.New("the server closed it")
	}
	var said *Error
	if errors.As(err, &said) {
		return err
	}
	return fmt.Errorf("the stream broke off: %w", err)
}

// errQuiet ends a stream whose connection may be gone without a word.
var errQuiet = errors.New("nothing came for too long")

func endOf(raw []byte) error {
	var end streamEnd
	if err := json.Unmarshal(raw, &end); err != nil {
		return err
	}
	return &Error{Status: end.Status, Code: end.Code, Message: end.Detail, Retryable: end.Retryable}
}

// AuditQuery says which entries of the audit log are wanted.
type AuditQuery struct {
	// Limit is how many of the newest; 0 is the server's default. Before is an index.
	Limit  int
	Before uint64
	// Action may end with a star. Operator leaves out packages and deployments.
	Action, Object string
	Operator       bool
	// Stale lets the node that is asked tell what it has, also without a leader.
	Stale bool
}

// Audit tells entries of the audit log, the newest first.
func (c *Client) Audit(ctx context.Context, query AuditQuery) ([]AuditEntry, error) {
	q := params("action", query.Action, "object", query.Object)
	if query.Limit > 0 {
		q.Set("limit", strconv.Itoa(query.Limit))
	}
	if query.Before > 0 {
		q.Set("before", strconv.FormatUint(query.Before, 10))
	}
	if query.Operator {
		q.Set("operator", "true")
	}
	if query.Stale {
		q.Set("consistency", "stale")
	}
	return get[[]AuditEntry](ctx, c, operatorPath("audit"), q)
}

// AuditEntry is something that was done.
type AuditEntry struct {
	Index     uint64    `json:"index"`
	Time      time.Time `json:"time"`
	Action    string    `json:"action"`
	Object    string    `json:"object"`
	Detail    string    `json:"detail"`
	RequestID string    `json:"request_id"`
	Principal string    `json:"principal"`
	Address   string    `json:"address"`
	Agent     string    `json:"agent"`
	Operator  bool      `json:"operator"`
}
