package api

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"oaas.io/control-plane/registry"
)

// operation is a write: what to run on the leader and how to answer it.
type operation struct {
	// body is the document without white space; nil when there is none.
	body []byte
	run  func(ctx context.Context, ri registry.RequestInfo) (outcome any, index uint64, err error)
	// reply encodes the outcome. It is also what an idempotency key remembers.
	reply func(outcome any) (status int, body []byte)
	// tag gives the ETag of what was written at index; may be nil.
	tag func(index uint64) string
}

// answer is the answer to a write, made here or by the leader.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send writes the answer. Its headers replace those that this node had set.
func (a *answer) send(w http.ResponseWriter) {
	if a.header.Get("PM-Term") != "" {
		w.Header().Del("PM-Leader") // it is of this node's term
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	if w.Header().Get(headerContentType) == "" {
		w.Header().Set(headerContentType, contentTypeJSON)
	}
	writeBody(w, a.status, a.body)
}

// write runs an operation where the leader is and gives its answer.
func (s *Server) write(r *http.Request, op operation) (*answer, error) {
	pre, err := precondition(r.Header)
	if err != nil {
		return nil, err
	}
	idem, err := s.idempotency(r, op.body, op.reply)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	ri := requestInfo(r, pre, idem)
	ans, err := s.onLeader(r, op.body, idem != nil, func() (*answer, error) { return s.runHere(ctx, ri, op) })
	if err != nil && codeOf(err) == registry.OutcomeUnknown {
		p := *problemOf(err)
		retryable := idem != nil && !idem.Ephemeral
		p.retryable = &retryable
		return nil, &p
	}
	return ans, err
}

// removeNamed runs the removal of what the path names, which has no outcome but
// that it is gone.
func (s *Server) removeNamed(
	w http.ResponseWriter, r *http.Request, remove func(ctx context.Context, ri registry.RequestInfo, name string) (index uint64, err error),
) error {
	if err := noDryRun(r); err != nil {
		return err
	}
	name := pathVar(r, "name")
	ans, err := s.write(r, operation{
		run: func(ctx context.Context, ri registry.RequestInfo) (any, uint64, error) {
			index, err := remove(ctx, ri, name)
			return nil, index, err
		},
		reply: func(any) (int, []byte) { return http.StatusNoContent, nil },
	})
	if err != nil {
		return err
	}
	ans.send(w)
	return nil
}

// runHere runs an operation on this node.
func (s *Server) runHere(ctx context.Context, ri registry.RequestInfo, op operation) (*answer, error) {
	outcome, index, err := op.run(ctx, ri)
	var replayed *registry.Replayed
	if errors.As(err, &replayed) {
		ans := &answer{status: int(replayed.Reply.GetStatus()), body: replayed.Reply.GetBody(), header: http.Header{}}
		s.stamp(ans.header)
		if ri.Idempotency.Ephemeral {
			// The client did not ask for a second attempt: its answer is that of the first.
			op.date(ans, replayed.Reply.GetCreateIndex())
		} else {
			ans.header.Set("Idempotency-Replayed", "true")
		}
		if len(ans.body) == 0 {
			ans.body = nil
		}
		return ans, nil
	}
	if err != nil {
		return nil, err
	}
	ans := &answer{header: http.Header{}}
	ans.status, ans.body = op.reply(outcome)
	s.stamp(ans.header)
	op.date(ans, index)
	return ans, nil
}

// date says which version the write at index has made.
func (op *operation) date(ans *answer, index uint64) {
	ans.header.Set("PM-Index", formatIndex(index))
	if op.tag == nil {
		return
	}
	if tag := op.tag(index); tag != "" {
		ans.header.Set("ETag", tag)
	}
}

// onLeader runs local if this node leads and otherwise has the leader answer the
// same request. While there is no leader, or the leader is changing, it tries
// again for as long as Options.HoldForLeader allows. idempotent says that the
// request may be sent again although an earlier attempt may have had its effect.
func (s *Server) onLeader(r *http.Request, body []byte, idempotent bool, local func() (*answer, error)) (*answer, error) {
	ctx, hop := r.Context(), callOf(r.Context()).hop
	hold := s.newHold()
	var unknown error // of an earlier attempt, which may have had its effect
	for {
		ans, err := s.attempt(r, body, local)
		if err == nil && (unknown == nil || ans.status < http.StatusInternalServerError) {
			return ans, nil
		}
		if err == nil {
			return nil, unknown // a leader that could not decide speaks of its own attempt only
		}
		code := codeOf(err)
		if code == registry.OutcomeUnknown {
			unknown = err
		}
		if hop != nil {
			// The forwarding node holds the request, not this one.
			hop.refused, hop.unknown = code == registry.NoLeader, code == registry.OutcomeUnknown
			return nil, err
		}
		again := code == registry.NoLeader || code == registry.OutcomeUnknown && idempotent
		if !again || !hold.wait(ctx) {
			if unknown != nil && undecided(code) {
				// "Nothing was done" would be true of the last attempt only.
				err = unknown
			}
			return nil, err
		}
	}
}

// undecided reports that a failed attempt did not get as far as to look at what
// earlier ones did: that it had no effect says nothing about those.
func undecided(code registry.Code) bool {
	switch code {
	case registry.NoLeader, registry.DeadlineExceeded, registry.Unavailable, registry.Internal:
		return true
	default:
		return false
	}
}

func (s *Server) attempt(r *http.Request, body []byte, local func() (*answer, error)) (*answer, error) {
	if s.opts.Cluster.IsLeader() {
		return local()
	}
	if callOf(r.Context()).hop != nil {
		return nil, errNoLeader()
	}
	return s.forward(r, body)
}

func errNoLeader() error {
	return fail(registry.NoLeader, "No leader is known; nothing was done, try again")
}

// hold paces the attempts of a request that waits for a leader.
type hold struct {
	until time.Time
	pause time.Duration
	s     *Server
	begun bool
}

const (
	holdPauseMin = 10 * time.Millisecond
	holdPauseMax = 250 * time.Millisecond
)

func (s *Server) newHold() *hold {
	return &hold{until: time.Now().Add(s.opts.HoldForLeader), pause: holdPauseMin, s: s}
}

// wait pauses and reports whether another attempt is allowed. The jitter keeps
// the requests that were held together from arriving together.
func (h *hold) wait(ctx context.Context) bool {
	left := time.Until(h.until)
	if left <= 0 || ctx.Err() != nil {
		return false
	}
	if !h.begun {
		h.begun = true
		h.s.metrics.held.Inc()
	}
	pause := time.NewTimer(min(left, h.pause/2+rand.N(h.pause/2+1)))
	defer pause.Stop()
	h.pause = min(2*h.pause, holdPauseMax)
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// encoded makes the reply function of an operation whose answer is value.
func encoded(status int, value any) (int, []byte) {
	raw, err := json.Marshal(value)
	if err != nil { // plain structs of texts: cannot fail
		return http.StatusInternalServerError, nil
	}
	return status, raw
}
