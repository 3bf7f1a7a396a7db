package api

import (
	"context"
	"errors"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/registry"
)

// Following the replicated state. A stream begins at an index, now, or with all
// rows; from there on it has every change, in the order of the log, one message
// for each command. What a node has forgotten is told as an error that names the
// oldest index it can begin at: there is never a silent gap. Positions are indexes
// of the log, so that any node goes on where another one ended.

const (
	contentTypeEvents = "text/event-stream"
	headerLastEventID = "Last-Event-ID"

	// The places where a stream may begin, beside an index.
	fromNow      = "now"
	fromSnapshot = "snapshot"
	fromOldest   = "oldest"

	// watchBatch is how many changes are looked at between two flushes.
	watchBatch = 256
	// snapshotBatch is how many rows one message of a snapshot has.
	snapshotBatch = 256
)

// watchWish is what somebody wants to follow.
type watchWish struct {
	filter topicFilter
	from   string
	index  uint64
	// read says how fresh the beginning has to be.
	read registry.Consistency
	// staleness is the highest age of the node's state at which the stream goes on; 0 is any.
	staleness time.Duration
	events    bool
}

// watch streams changes until the client goes away or the server stops.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	wish, err := s.watchWishOf(r)
	if err != nil {
		return err
	}
	if !s.watchers.TryAcquire(1) {
		return fail(codeOverloaded, "%d streams follow this node already", s.opts.MaxWatchers)
	}
	defer s.watchers.Release(1)
	snap, err := s.watchStart(r.Context(), wish)
	if err != nil {
		return err
	}
	h := w.Header()
	s.stamp(h)
	h.Set("PM-Index", formatIndex(snap.Index()))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy that collects the answer would make it useless
	h.Set(headerContentType, contentTypeLines)
	if wish.events {
		h.Set(headerContentType, contentTypeEvents)
	}
	s.metrics.watchers.Inc()
	defer s.metrics.watchers.Dec()
	t := &watchStream{s: s, wish: wish, out: newMessageWriter(w, wish.events), at: wish.index}
	switch wish.from {
	case fromNow:
		t.at = snap.Index()
	case fromOldest:
		t.at = s.opts.Registry.State().OldestChange()
	case fromSnapshot:
		t.at = snap.Index()
	}
	if r.Method != http.MethodHead && (wish.from != fromSnapshot || t.rows(snap)) {
		t.follow(r.Context())
	}
	return nil
}

// watchStart waits for the state to be as fresh as the stream's beginning needs it,
// and finds out whether there is such a beginning.
func (s *Server) watchStart(ctx context.Context, wish *watchWish) (*fsm.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	if wish.from == "" {
		if err := s.reach(ctx, wish.index); err != nil {
			return nil, err
		}
		_, _, err := s.opts.Registry.State().ChangesAfter(wish.index, 1)
		return s.opts.Registry.State().Snapshot(), watchProblem(err)
	}
	return s.view(ctx, wish.read)
}

// reach waits until the state has applied an index that another node may have given
// out. One that this log has not reached by then belongs to another cluster, or is
// made up.
func (s *Server) reach(ctx context.Context, index uint64) error {
	if index <= s.opts.Registry.State().Snapshot().Index() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.HoldForLeader)
	defer cancel()
	_, err := s.opts.Registry.Read(ctx, registry.Consistency{AtIndex: index})
	if err != nil && ctx.Err() != nil {
		return fail(registry.Unavailable, "This node is at index %d and has not reached %d; try another one, or begin with from=%s",
			s.opts.Registry.State().Snapshot().Index(), index, fromSnapshot)
	}
	return err
}

func watchProblem(err error) error {
	var compacted *fsm.CompactedError
	if !errors.As(err, &compacted) {
		return err
	}
	p := fail(codeCompacted, "The changes up to index %d are not remembered any more. Begin with from=%s, or with an index from %d on",
		compacted.Oldest, fromSnapshot, compacted.Oldest)
	p.oldest = compacted.Oldest
	return p
}

func (s *Server) watchWishOf(r *http.Request) (*watchWish, error) {
	q := parseQuery(r.URL.RawQuery)
	wish := &watchWish{from: fromNow, events: wantsEvents(r, q)}
	if wish.read, wish.staleness = (registry.Consistency{Stale: q.text("consistency") == "stale"}), q.duration("max_staleness"); wish.read.Stale {
		wish.read.MaxStaleness = wish.staleness
	} else if c := q.text("consistency"); c != "" && c != "linearizable" {
		q.wrong("consistency", "linearizable or stale")
	}
	// A client that lost its stream says where it was, whatever the URL says.
	from, told := r.Header.Get(headerLastEventID), "Header "+headerLastEventID
	if from == "" {
		from, told = q.text("from"), "Query parameter from"
	}
	switch from {
	case "", fromNow:
	case fromSnapshot, fromOldest:
		wish.from = from
	default:
		index, err := strconv.ParseUint(from, 10, 64)
		if q.err == nil && (err != nil || index == math.MaxUint64) {
			q.err = fail(registry.InvalidArgument, "%s must be now, snapshot, oldest, or an index from a bookmark or the header PM-Index, got %q", told, from)
		}
		wish.from, wish.index = "", index
	}
	var err error
	if wish.filter, err = topicsOf(q.list("topics")); err != nil && q.err == nil {
		q.err = err
	}
	return wish, q.err
}

// wantsEvents reports whether the client wants server-sent events instead of one
// JSON document a line.
func wantsEvents(r *http.Request, q *query) bool {
	switch q.text("format") {
	case "sse":
		return true
	case "ndjson":
		return false
	case "":
	default:
		q.wrong("format", "ndjson or sse")
	}
	for accepted := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if kind, _, err := mime.ParseMediaType(accepted); err == nil && kind == contentTypeEvents {
			return true
		}
	}
	return false
}

// topicFilter has, for each wanted topic, the patterns of which one has to match
// the key or the name of a row. No pattern matches all.
type topicFilter map[string][]string

// topicsOf reads topic, or topic:name with a * at the end for all names that begin so.
func topicsOf(list []string) (topicFilter, error) {
	known := fsm.Topics()
	out := topicFilter{}
	for _, item := range list {
		topic, name, named := strings.Cut(item, ":")
		switch have, again := out[topic]; {
		case !slices.Contains(known, topic):
			return nil, fail(registry.InvalidArgument, "Query parameter topics: there is no %q, only %s", topic, strings.Join(known, ", "))
		case named && name == "":
			return nil, fail(registry.InvalidArgument, "Query parameter topics: after %s: a name is missing", topic)
		case !named, again && len(have) == 0:
			out[topic] = nil
		default:
			out[topic] = append(have, name)
		}
	}
	if len(out) == 0 {
		for _, topic := range known {
			out[topic] = nil
		}
	}
	return out, nil
}

func (f topicFilter) wants(e *fsm.Event) bool {
	patterns, topic := f[e.Topic]
	if !topic || len(patterns) == 0 {
		return topic
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, open := strings.CutSuffix(p, "*"); open {
			return strings.HasPrefix(e.Key, prefix) || strings.HasPrefix(e.About, prefix)
		}
		return e.Key == p || e.About == p
	})
}

// watchStream is one stream under way.
type watchStream struct {
	s    *Server
	wish *watchWish
	out  *messageWriter
	// at is the index up to which the client has everything.
	at uint64
}

// rows sends all rows of the view. It reports false when the stream has ended: the
// client is gone, or so slow that what follows the view is not remembered any more.
func (t *watchStream) rows(snap *fsm.Snapshot) bool {
	head := messageHead{Type: "snapshot", Index: snap.Index()}
	var batch []eventView
	for _, topic := range fsm.Topics() {
		for e := range snap.Rows(topic) {
			if !t.wish.filter.wants(&e) {
				continue
			}
			if batch = append(batch, t.s.tellEvent(&e)); len(batch) < snapshotBatch {
				continue
			}
			t.message(&head, batch)
			batch = batch[:0]
			if t.out.err != nil || !t.remembered() {
				return false
			}
		}
	}
	if len(batch) > 0 {
		t.message(&head, batch)
	}
	return t.out.err == nil
}

// remembered ends the stream with an error when what it needs next is forgotten.
func (t *watchStream) remembered() bool {
	_, _, err := t.s.opts.Registry.State().ChangesAfter(t.at, 1)
	if err != nil {
		t.s.metrics.watchesCompacted.Inc()
		t.fail(watchProblem(err))
	}
	return err == nil
}

func (t *watchStream) message(head *messageHead, events []eventView) {
	t.s.metrics.watchEvents.Add(float64(len(events)))
	t.out.message(head, events)
}

// follow sends changes as they come.
func (t *watchStream) follow(ctx context.Context) {
	ticker := time.NewTicker(t.s.opts.BookmarkInterval)
	defer ticker.Stop()
	state := t.s.opts.Registry.State()
	caughtUp := false
	for t.out.err == nil {
		snap := state.Snapshot()
		moved := snap.WatchAll()
		changes, upTo, err := state.ChangesAfter(t.at, watchBatch)
		if err != nil {
			t.s.metrics.watchesCompacted.Inc()
			t.fail(watchProblem(err))
			return
		}
		for _, ch := range changes {
			t.change(ch)
		}
		if t.at = max(t.at, upTo); t.at < snap.Index() {
			continue
		}
		if !caughtUp {
			caughtUp = true
			t.bookmark()
		}
		if t.out.flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			if t.s.life.Err() != nil {
				t.fail(fail(registry.Unavailable, "This node is stopping; go on with another one"))
			}
			return
		case <-moved:
		case <-ticker.C:
			if t.wish.staleness > 0 && t.s.opts.Cluster.Staleness() > t.wish.staleness {
				t.fail(fail(registry.Unavailable, "The state of this node may be older than the allowed %s; go on with another one", t.wish.staleness))
				return
			}
			t.bookmark()
		}
	}
}

func (t *watchStream) change(ch *fsm.Change) {
	var events []eventView
	for i := range ch.Events {
		if t.wish.filter.wants(&ch.Events[i]) {
			events = append(events, t.s.tellEvent(&ch.Events[i]))
		}
	}
	if len(events) == 0 {
		return
	}
	head := messageHead{
		Type: "change", Index: ch.Index, Term: ch.Term, Operation: ch.Operation, RequestID: ch.RequestID, Principal: ch.Principal,
	}
	if !ch.Time.IsZero() {
		head.Time = zulu(ch.Time)
	}
	t.message(&head, events)
}

// bookmark tells how far the stream is and how fresh that is.
func (t *watchStream) bookmark() {
	contact := t.s.opts.Cluster.LastContact().Milliseconds()
	t.out.message(&messageHead{Type: "bookmark", Index: t.at, Time: zulu(t.s.opts.Now()), LastContact: &contact}, nil)
}

// fail ends the stream with a problem, of which the client has the status already.
func (t *watchStream) fail(err error) {
	p := problemOf(err)
	kind := problemTypes[p.code]
	t.out.message(&messageHead{
		Type: "error", Index: t.at, Status: kind.Status, Code: string(p.code), Detail: p.detail, Retryable: kind.Retryable, OldestIndex: p.oldest,
	}, nil)
	_ = t.out.flush() // it is the end in any case
}
