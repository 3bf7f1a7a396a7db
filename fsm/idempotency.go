package fsm

import (
	"bytes"
	"iter"
	"time"

	"oaas.io/control-plane/proto/pmpb"
)

// Limits of the remembered replies. They are part of the replicated semantics.
const (
	// ReplyTTL is how long, in leader time, a reply is remembered at most.
	ReplyTTL = 24 * time.Hour
	// MaxReplies is how many replies are remembered at most.
	MaxReplies = 10_000
	// MaxReplyBytes is how many bytes of bodies are remembered at most.
	MaxReplyBytes = 64 << 20
	// MaxReplyBody is how many bytes a single body may have.
	MaxReplyBody = 256 << 10
)

// Limits of the replies under keys that nodes made for their own retries, which
// end with the request. They have room of their own: the writes of a busy minute
// must not push out what a client may ask for hours later.
const (
	EphemeralTTL        = 2 * time.Minute
	MaxEphemeralReplies = 16_384
	MaxEphemeralBytes   = 16 << 20
)

// replySum is the size of one class of remembered replies.
type replySum struct{ count, bytes int }

func (s *replySum) add(r *pmpb.Reply, n int) {
	s.count += n
	s.bytes += n * len(r.GetBody())
}

// replySums are the sizes of both classes.
type replySums struct{ kept, ephemeral replySum }

func (s *replySums) of(ephemeral bool) *replySum {
	if ephemeral {
		return &s.ephemeral
	}
	return &s.kept
}

// replay gives the reply that the key has, or an error when the key was used for
// another request. Both nil means that the command is to be carried out.
func (c *call) replay(idem *pmpb.Idempotency) (*pmpb.Reply, error) {
	if idem == nil {
		return nil, nil
	}
	if err := checkKey("idempotency key", idem.GetKey()); err != nil {
		return nil, err
	}
	if len(idem.GetBody()) > MaxReplyBody {
		return nil, invalidf("reply has %d bytes, at most %d are remembered", len(idem.GetBody()), MaxReplyBody)
	}
	reply := c.view.Reply(idem.GetKey())
	switch {
	case reply == nil || c.expired(reply):
		return nil, nil
	case !bytes.Equal(reply.GetRequestHash(), idem.GetRequestHash()):
		return nil, &IdempotencyConflictError{Key: idem.GetKey()}
	default:
		return reply, nil
	}
}

// remember stores the command's own reply, and evicts the oldest replies of its
// class until the limits hold. Oldest means first in the log, so that leaders
// whose clocks disagree cannot reorder the eviction. It runs when the handler has
// succeeded and cannot fail.
func (c *call) remember(idem *pmpb.Idempotency) {
	if idem == nil {
		return
	}
	reply := &pmpb.Reply{
		Key: idem.GetKey(), RequestHash: idem.GetRequestHash(), Status: idem.GetStatus(), Body: idem.GetBody(),
		Time: c.now(), CreateIndex: c.index, Ephemeral: idem.GetEphemeral(),
	}
	if old := c.view.Reply(reply.GetKey()); old != nil { // expired, else it had been replayed
		c.forget(old)
	}
	sum := c.meta.replies.of(reply.GetEphemeral())
	sum.add(reply, 1)
	for old := range c.view.repliesInOrder(reply.GetEphemeral()) {
		if !sum.beyond(reply.GetEphemeral()) && !c.expired(old) {
			break
		}
		if old.GetKey() != reply.GetKey() {
			c.forget(old)
		}
	}
	c.put(atReplies, reply)
}

// beyond reports whether the class exceeds its limits.
func (s *replySum) beyond(ephemeral bool) bool {
	if ephemeral {
		return s.count > MaxEphemeralReplies || s.bytes > MaxEphemeralBytes
	}
	return s.count > MaxReplies || s.bytes > MaxReplyBytes
}

// repliesInOrder gives the replies of one class, the oldest first.
func (s *Snapshot) repliesInOrder(ephemeral bool) iter.Seq[*pmpb.Reply] {
	return while(s.store.replies().from(repliesByAge, &pmpb.Reply{Ephemeral: ephemeral}), func(r *pmpb.Reply) bool {
		return r.GetEphemeral() == ephemeral
	})
}

func (c *call) forget(reply *pmpb.Reply) {
	c.meta.replies.of(reply.GetEphemeral()).add(reply, -1)
	c.drop(atReplies, reply)
}

func (c *call) expired(reply *pmpb.Reply) bool {
	return c.now() != nil && ReplyExpired(reply, c.now().AsTime())
}

// ReplyExpired reports that a command of that time would not get the reply any
// more, although it may still be stored.
func ReplyExpired(reply *pmpb.Reply, now time.Time) bool {
	if reply.GetTime() == nil {
		return false
	}
	ttl := ReplyTTL
	if reply.GetEphemeral() {
		ttl = EphemeralTTL
	}
	return now.Sub(reply.GetTime().AsTime()) > ttl
}
