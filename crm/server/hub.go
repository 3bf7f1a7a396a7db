package server

import (
	"errors"
	"strconv"
	"sync"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// maxPending bounds what one subscriber may leave unread. It counts units, not
// changes: a unit that changes a hundred times takes one place.
const maxPending = 16384

var (
	// errSlow ends a stream whose reader fell behind by more units than are kept.
	errSlow = errors.New("the stream fell too far behind; open it again for a new inventory")
	// errResync ends a stream whose source was replaced.
	errResync = errors.New("the source of changes was restarted; open the stream again for a new inventory")
)

// change is the latest known state of one object.
type change struct {
	object  *v1alpha1.ClassRuntime // read-only, shared with the cache
	removed bool
}

// hub hands the changes that the informer sees to every open stream.
type hub struct {
	limit int

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
}

func newHub(limit int) *hub {
	return &hub{limit: limit, subscribers: map[*subscriber]struct{}{}}
}

func (h *hub) subscribe() *subscriber {
	s := &subscriber{limit: h.limit, pending: map[string]change{}, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[s] = struct{}{}
	return s
}

func (h *hub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, s)
}

// publish never blocks: a stalled reader costs itself, nobody else.
func (h *hub) publish(c change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		s.offer(c)
	}
}

// end closes every open stream with the given reason.
func (h *hub) end(reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		s.fail(reason)
	}
}

// subscriber is a queue in which each object has at most one place, so that a
// slow reader gets the latest state of each instead of all its history.
type subscriber struct {
	limit int
	wake  chan struct{}

	mu      sync.Mutex
	order   []string
	pending map[string]change
	err     error
}

func (s *subscriber) offer(c change) {
	name := c.object.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if _, waiting := s.pending[name]; !waiting {
		if len(s.order) >= s.limit {
			s.failLocked(errSlow)
			return
		}
		s.order = append(s.order, name)
	}
	s.pending[name] = c
	s.signal()
}

func (s *subscriber) fail(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.failLocked(reason)
	}
}

func (s *subscriber) failLocked(reason error) {
	s.err, s.order, s.pending = reason, nil, nil
	s.signal()
}

func (s *subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns everything that waits, in the order in which the objects first
// changed, or the error that ended the subscription.
func (s *subscriber) take() ([]change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if len(s.order) == 0 {
		return nil, nil
	}
	changes := make([]change, 0, len(s.order))
	for _, name := range s.order {
		changes = append(changes, s.pending[name])
	}
	s.order, s.pending = nil, map[string]change{}
	return changes, nil
}

// ledger remembers what a stream has sent of each object, so that an informer
// that lags behind the inventory cannot take the stream back in time.
type ledger struct {
	sent map[string]sent
	// listed is the resourceVersion of the inventory. An object that it does not
	// show and that is not newer was gone by then.
	listed uint64
}

func newLedger() *ledger { return &ledger{sent: map[string]sent{}} }

type sent struct {
	version uint64
	uid     string
}

// versionOf reads a resourceVersion, which Kubernetes defines as comparable
// within one resource type.
func versionOf(object interface{ GetResourceVersion() string }) uint64 {
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return version
}

// admit reports whether a change is news to the stream, and notes it.
func (l *ledger) admit(c change) bool {
	have, known := l.sent[c.object.Name]
	version, uid := versionOf(c.object), string(c.object.UID)
	if c.removed {
		// The end of an earlier object of the same name is not the end of this one.
		if known && have.uid != uid && have.version > version {
			return false
		}
		delete(l.sent, c.object.Name)
		return true
	}
	if version != 0 && (version <= l.listed || known && version <= have.version) {
		return false
	}
	l.sent[c.object.Name] = sent{version: version, uid: uid}
	return true
}
