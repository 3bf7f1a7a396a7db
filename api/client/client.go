package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Options configure a Client. Servers is the only field without a default.
type Options struct {
	// Servers are the base URLs of the nodes. A URL without scheme is taken as
	// http://.
	Servers []string
	// HTTPClient sends the requests. The default has no cookies and a pool of its
	// own.
	HTTPClient *http.Client
	// UserAgent is sent with each request. Default oaas-client.
	UserAgent string
	// RetryFor bounds how long a call goes on trying. Default 15 s; negative means
	// one attempt per server.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt, so that a node that hangs does not use up
	// the time of the others. Default 30 s.
	AttemptTimeout time.Duration
	// ProbeAfter is how long an answer may take before the client looks, and looks
	// again after as long, whether the server answers at all; if not, the next one is
	// asked. It matters with several servers only. Default 3 s.
	ProbeAfter time.Duration
	// StreamSilence is how long a watch may bring nothing before its stream is given up
	// and taken up again, on another server if there is one. Servers send a bookmark
	// every 5 s. Default 15 s.
	StreamSilence time.Duration
	// BackoffMin and BackoffMax bound the pause after every server was tried.
	// Default 100 ms and 2 s.
	BackoffMin, BackoffMax time.Duration
	// MaxResponseBytes bounds an answer. Default 256 MiB.
	MaxResponseBytes int64
}

// Validate reports what is wrong with the options.
func (o *Options) Validate() error {
	if len(o.Servers) == 0 {
		return errors.New("no server given")
	}
	for _, s := range o.Servers {
		if _, err := baseURL(s); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) setDefaults() {
	setDefault(&o.UserAgent, "oaas-client")
	setDefault(&o.RetryFor, 15*time.Second)
	setDefault(&o.AttemptTimeout, 30*time.Second)
	setDefault(&o.ProbeAfter, 3*time.Second)
	setDefault(&o.StreamSilence, 15*time.Second)
	setDefault(&o.BackoffMin, 100*time.Millisecond)
	setDefault(&o.BackoffMax, 2*time.Second)
	setDefault(&o.MaxResponseBytes, 256<<20)
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// baseURL reads the address of a server as people write it.
func baseURL(s string) (string, error) {
	text := strings.TrimSpace(s)
	if text != "" && !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("server %q is not a URL: %w", s, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", fmt.Errorf("server %q is not an http or https URL, such as http://localhost:8080", s)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("server %q must be a base URL without query and fragment", s)
	}
	return strings.TrimRight(text, "/"), nil
}

// Client calls the API. It is safe for concurrent use.
type Client struct {
	opts    Options
	servers []string
	http    http.Client
	current atomic.Uint32 // index of the server that answered last
}

// New makes a Client. It does not connect.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	c := &Client{opts: o, http: *o.HTTPClient}
	for _, s := range o.Servers {
		base, err := baseURL(s)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, base)
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Servers gives the base URLs in the order in which they were given.
func (c *Client) Servers() []string { return append([]string(nil), c.servers...) }

// CloseIdle closes connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// call is one logical request, however many attempts it takes.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	key          string // Idempotency-Key of a write
}

// failure is one attempt that did not succeed.
type failure struct {
	err   error
	again bool          // another attempt may help
	after time.Duration // the server's own wish for a pause
	sent  bool          // it may have had its effect
}

// do sends a request, with doc as its body unless that is nil, and decodes the
// answer into out unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, doc json.Marshaler, out any) error {
	rq := call{method: method, path: path, query: query}
	if doc != nil {
		// Not json.Marshal, which would escape what the canonical form does not.
		body, err := doc.MarshalJSON()
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		rq.body = body
	}
	if method != http.MethodGet {
		rq.key = rand.Text()
	}
	body, err := c.send(ctx, rq)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s: answer cannot be read: %w", method, path, err)
	}
	return nil
}

// send tries the servers in turn until one answers for good.
func (c *Client) send(ctx context.Context, rq call) ([]byte, error) {
	deadline := time.Now().Add(c.opts.RetryFor)
	if extrasOf(ctx).once {
		deadline = time.Now()
	}
	pause := c.opts.BackoffMin
	sent := false
	var answered error
	for tried := 1; ; tried++ {
		at := c.current.Load()
		body, failed := c.attempt(ctx, c.servers[at], rq)
		if failed == nil {
			return body, nil
		}
		sent = sent || failed.sent
		if said := new(Error); errors.As(failed.err, &said) {
			answered = failed.err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w (last failure: %w)", rq.method, rq.path, context.Cause(ctx), failed.err)
		}
		if !failed.again {
			return nil, failed.err
		}
		// Only one of several concurrent calls moves on from a failing server.
		c.current.CompareAndSwap(at, (at+1)%uint32(len(c.servers)))
		if tried%len(c.servers) != 0 {
			continue
		}
		wait := max(failed.after, pause/2+mrand.N(pause/2+1))
		if time.Until(deadline) < wait {
			return nil, c.giveUp(failed, answered, sent && rq.key != "")
		}
		pause = min(2*pause, c.opts.BackoffMax)
		if err := sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("%s %s: %w (last failure: %w)", rq.method, rq.path, err, failed.err)
		}
	}
}

// giveUp tells what the last server that answered said, if any did: that another
// one is down explains nothing. A write that may have taken effect comes first.
func (c *Client) giveUp(last *failure, answered error, sent bool) error {
	if said := new(Error); errors.As(last.err, &said) {
		return last.err
	}
	if answered != nil && !sent {
		return answered
	}
	return &UnreachableError{Servers: c.Servers(), Sent: sent, Cause: last.err}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) attempt(ctx context.Context, server string, rq call) ([]byte, *failure) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.AttemptTimeout)
	defer cancel()
	ctx, stop := c.whileAlive(ctx, server)
	defer stop()
	target := server + rq.path
	if len(rq.query) > 0 {
		target += "?" + rq.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, rq.method, target, bytes.NewReader(rq.body))
	if err != nil {
		return nil, &failure{err: err}
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if rq.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if rq.key != "" {
		req.Header.Set("Idempotency-Key", rq.key)
	}
	more := extrasOf(ctx)
	if more.match != "" {
		req.Header.Set("If-Match", more.match)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var untrusted *tls.CertificateVerificationError
		return nil, &failure{err: because(ctx, err), again: !errors.As(err, &untrusted), sent: !neverSent(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.opts.MaxResponseBytes+1))
	if err != nil {
		return nil, &failure{err: fmt.Errorf("read answer of %s: %w", server, because(ctx, err)), again: true, sent: true}
	}
	if int64(len(body)) > c.opts.MaxResponseBytes {
		return nil, &failure{err: fmt.Errorf("answer of %s is larger than %d bytes", server, c.opts.MaxResponseBytes)}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		if more.seen != nil {
			more.seen(resp.Header)
		}
		return body, nil
	}
	e := decodeError(server, resp, body)
	return nil, &failure{err: e, again: e.Retryable, after: retryAfter(resp.Header)}
}

// neverSent reports that no connection came about.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// retryAfter reads the server's wish in seconds. Long ones are cut: the caller's
// own deadline is what counts.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, 5*time.Second)
}
