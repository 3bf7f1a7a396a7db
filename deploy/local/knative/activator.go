package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/network"
)

// playActivator answers the one kind of call that Knative's reconcilers make themselves:
// the question whether the activator stands in for a revision that is about to lose its
// last pod. The connections never leave the process.
func playActivator(ctx context.Context, group *errgroup.Group) {
	pipes := pipeListener{connections: make(chan net.Conn), closed: make(chan struct{})}
	network.DialWithBackOff = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case pipes.connections <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "activator") }),
		ReadHeaderTimeout: time.Minute,
	}
	group.Go(func() error {
		if err := server.Serve(pipes); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("play the activator: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		close(pipes.closed)
		return server.Close()
	})
}

// pipeListener accepts what is dialled within the process.
type pipeListener struct {
	connections chan net.Conn
	closed      chan struct{}
}

// Accept implements net.Listener.
func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, http.ErrServerClosed
	}
}

// Close implements net.Listener.
func (l pipeListener) Close() error { return nil }

// Addr implements net.Listener.
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "activator", Net: "pipe"} }
