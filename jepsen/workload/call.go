package workload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/jepsen/history"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// refusals are the codes of docs/rest.md that come with a 5xx and promise that nothing was
// done.
var refusals = map[string]bool{
	"no-leader": true, "deadline-exceeded": true, "read-only": true, "unavailable": true,
	"not-configured": true, "not-implemented": true,
}

// Classify tells the outcome of a write from what came back: status is 0 when there was no
// answer, code names its problem, and sent says that a connection was there to send it on.
//
// A 4xx is a refusal only with a code: one without may be a proxy's. Of the 5xx only those
// that promise it are. outcome-unknown and internal are none of them.
func Classify(status int, code string, sent bool) history.Outcome {
	switch {
	case status >= 200 && status < 300:
		return history.OK
	case status == 0 && !sent:
		return history.Failed
	case status >= 400 && status < 500 && code != "":
		return history.Failed
	case status >= 500 && refusals[code]:
		return history.Failed
	default:
		return history.Unknown
	}
}

// call is one request to the API.
type call struct {
	kind, key    string
	node         string // empty is any
	method, path string
	query        url.Values
	request      history.Request
	header       http.Header
	body         []byte
	// value gives the value of the object that a read shows.
	value func(body []byte) (string, error)
}

// result is what became of a call.
type result struct {
	history.Answer
	outcome history.Outcome
	index   uint64
}

// do sends a call, takes it down and tells what became of it. The end of ctx does not cut it
// off: an answer that is about to come is worth more than the moment that it takes.
func (p *process) do(ctx context.Context, c call) result {
	if c.node == "" {
		c.node = p.node()
	}
	op := history.Operation{Process: p.id, Workload: p.workload, Kind: c.kind, Key: c.key, Node: c.node, Input: c.request}
	answer := p.env.Recorder().Call(op)
	timeout := p.env.options.Timeout + c.request.Wait
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	got := p.env.send(ctx, c)
	write := c.kind != history.Read
	if !write && got.outcome != history.OK {
		got.outcome = history.Failed // it has no effect, whatever became of it
	}
	answer(func(op *history.Operation) {
		op.Outcome, op.Output = got.outcome, got.Answer
		op.ServedBy, op.Leader, op.Index, op.Term = got.servedBy, got.leader, got.index, got.term
		op.Command = write && got.outcome == history.OK && !got.Replayed
		if got.err != nil {
			op.Error = got.err.Error()
		}
	})
	if got.outcome == history.Unknown {
		p.renew()
	}
	return result{Answer: got.Answer, outcome: got.outcome, index: got.index}
}

// reply is an answer with what its headers say of the node.
type reply struct {
	history.Answer
	outcome          history.Outcome
	servedBy, leader string
	index, term      uint64
	err              error
}

// send makes one attempt.
func (e *Env) send(ctx context.Context, c call) reply {
	if c.node == "" {
		return reply{outcome: history.Failed, err: errNoNode}
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	at := e.endpoint(c.node)
	target := strings.TrimRight(at.URL, "/") + c.path
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target, bytes.NewReader(c.body))
	if err != nil {
		return reply{outcome: history.Failed, err: err}
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "oaas-chaos")
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := at.Transport.RoundTrip(req)
	if err != nil {
		return reply{outcome: Classify(0, "", sent.Load()), err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	out := readHeaders(resp.Header)
	if err != nil {
		// The status came, and it is final. What a read shows did not.
		out.Status, out.err = resp.StatusCode, fmt.Errorf("read answer: %w", err)
		out.outcome = Classify(resp.StatusCode, "", true)
		if c.kind == history.Read {
			out.outcome = history.Failed
		}
		return out
	}
	out.Status = resp.StatusCode
	out.decode(&c, resp.Header, body)
	return out
}

// decode reads the body of an answer.
func (r *reply) decode(c *call, h http.Header, body []byte) {
	sum := sha256.Sum256(body)
	r.Body = hex.EncodeToString(sum[:8])
	if r.Status >= 300 {
		var problem struct {
			Code   string `json:"code"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(body, &problem); err == nil {
			r.Code = problem.Code
		}
		r.err = fmt.Errorf("%d %s: %.200s", r.Status, r.Code, problem.Detail)
	}
	r.outcome = Classify(r.Status, r.Code, true)
	switch {
	case c.kind == history.Read && r.Code == history.RefusedNotFound:
		// That there is none is what it reads.
		r.outcome, r.err = history.OK, nil
	case r.outcome != history.OK:
	case c.kind == history.Read:
		r.UID, r.Version = splitTag(h.Get("ETag"))
		if uid := h.Get("PM-Deployment-UID"); uid != "" {
			r.UID = uid
		}
		r.Exists = true
		if r.Value, r.err = c.value(body); r.err != nil {
			r.outcome = history.Failed
		}
	case c.kind != history.Delete && !r.Replayed:
		r.Version = r.index
		var written client.Response
		if err := json.Unmarshal(body, &written); err == nil && c.request.Wait > 0 {
			r.Available, r.Unit = written.Status == "available", written.ID
		}
	}
}

// splitTag reads an ETag: the incarnation, a dot and the index of the version.
func splitTag(tag string) (string, uint64) {
	tag = strings.Trim(tag, `"`)
	dot := strings.LastIndexByte(tag, '.')
	if dot < 0 {
		return "", 0
	}
	return tag[:dot], number(tag[dot+1:])
}

// matching is the If-Match of a version. Only the index counts to the server.
func matching(version uint64) string { return `"0.` + strconv.FormatUint(version, 10) + `"` }

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func readHeaders(h http.Header) reply {
	return reply{
		servedBy: h.Get("PM-Served-By"), leader: h.Get("PM-Leader"), index: number(h.Get("PM-Index")), term: number(h.Get("PM-Term")),
		Answer: history.Answer{
			Mode: h.Get("PM-Consistency"), Replayed: h.Get("Idempotency-Replayed") == "true",
			Generation:  number(h.Get("PM-Deployment-Generation")),
			LastContact: time.Duration(number(h.Get("PM-Last-Contact-Ms"))) * time.Millisecond, //nolint:gosec // an age
		},
	}
}

var errNoNode = errors.New("workload: there is no node to ask")
