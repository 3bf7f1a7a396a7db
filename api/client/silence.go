package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// probeTimeout bounds a probe. A node that does not answer it within that time is
// stopped, cut off, or so loaded that another one is quicker.
const probeTimeout = 2 * time.Second

var errSilent = errors.New("the server takes connections but does not answer: its process may be paused")

// whileAlive gives a context that ends with errSilent when server no longer answers
// a probe while one of its answers is waited for. A long request to a node that
// works is told from one to a node that is paused by that. stop ends the probes.
func (c *Client) whileAlive(ctx context.Context, server string) (alive context.Context, stop func()) {
	if len(c.servers) == 1 {
		return ctx, func() {}
	}
	alive, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(alive, c.opts.ProbeAfter) == nil {
			if !c.probe(alive, server) {
				cancel(errSilent)
				return
			}
		}
	}()
	return alive, func() {
		cancel(context.Canceled)
		<-done
	}
}

// probe reports whether anybody at server answers, whatever the answer is.
func (c *Client) probe(ctx context.Context, server string) bool {
	ctx, cancel := context.WithTimeout(ctx, min(probeTimeout, 10*c.opts.ProbeAfter))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/livez", nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) // so that the connection can be used again
	_ = resp.Body.Close()
	return true
}

// because adds to a failure that the server was given up for its silence.
func because(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, errSilent) && !errors.Is(err, io.EOF) && errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("%w (%w)", errSilent, err)
	}
	return err
}

// watchedBody is an answer whose server is probed until it is closed.
type watchedBody struct {
	io.ReadCloser
	ctx  context.Context
	stop func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, because(b.ctx, err)
}

func (b *watchedBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}
