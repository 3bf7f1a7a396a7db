package fsm

import (
	"bytes"
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

// remember stores the command's own reply, and evicts the oldest replies until
// the limits hold. Oldest means first in the log, so that leaders whose clocks
// disagree cannot reorder the eviction. It runs when the handler has succeeded
// and cannot fail.
func (c *call) remember(idem *pmpb.Idempotency) {
	if idem == nil {
		return
	}
	reply := &pmpb.Reply{
		Key: idem.GetKey(), RequestHash: idem.GetRequestHash(), Status: idem.GetStatus(), Body: idem.GetBody(),
		Time: c.now(), CreateIndex: c.index,
	}
	if old := c.view.Reply(reply.GetKey()); old != nil { // expired, else it had been replayed
		c.forget(old)
	}
	c.meta.replies++
	c.meta.replyBytes += len(reply.GetBody())
	for old := range each[*pmpb.Reply](c.view, TableReplies, indexOrder) {
		if c.meta.replies <= MaxReplies && c.meta.replyBytes <= MaxReplyBytes && !c.expired(old) {
			break
		}
		if old.GetKey() != reply.GetKey() {
			c.forget(old)
		}
	}
	c.put(TableReplies, reply)
}

func (c *call) forget(reply *pmpb.Reply) {
	c.meta.replies--
	c.meta.replyBytes -= len(reply.GetBody())
	c.drop(TableReplies, reply)
}

func (c *call) expired(reply *pmpb.Reply) bool {
	if reply.GetTime() == nil || c.now() == nil {
		return false
	}
	return c.now().AsTime().Sub(reply.GetTime().AsTime()) > ReplyTTL
}
