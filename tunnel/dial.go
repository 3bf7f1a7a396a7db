package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"oaas.io/control-plane/proto/pmpb"
)

// dialPause is between two looks at the ways to an agent while there is none that works.
const dialPause = 250 * time.Millisecond

// Dial opens a connection to an agent of a cluster, at whatever node it is. While there
// is none it waits for one until ctx ends: an agent that has lost its connection is back
// within moments. If none is, the error is ErrNoAgent.
func (h *Hub) Dial(ctx context.Context, to Cluster) (net.Conn, error) {
	pause := time.NewTicker(dialPause)
	defer pause.Stop()
	began := h.opts.Now()
	var last error
	for {
		routes, changed := h.table.routes(to)
		busy := ""
		for i, r := range routes {
			if busy != "" && busy != r.GetInstance() && h.opts.Now().Sub(began) < h.opts.OpenTimeout {
				break // the newer one is about to offer another stream
			}
			conn, err := h.open(ctx, to, r, len(routes)-i)
			if err == nil {
				return h.keep(conn, to, r, routes[0].GetInstance()), nil
			}
			if errors.Is(err, errBusy) {
				busy = r.GetInstance()
			}
			last = fmt.Errorf("agent of %s at %s: %w", to.Name, h.nodeOf(r), err)
		}
		if len(routes) == 0 {
			last = ErrNoAgent
		}
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			return nil, last
		case <-h.life.Done():
			return nil, errStopped
		}
	}
}

func (h *Hub) nodeOf(r route) string {
	if r.server == "" {
		return h.opts.Node
	}
	return r.server
}

// open opens a connection along a route, one of so many that are left.
func (h *Hub) open(ctx context.Context, to Cluster, r route, left int) (net.Conn, error) {
	if r.server == "" {
		near, far := pipe(h.opts.Node, r.GetRemoteAddress())
		err := h.table.take(r.GetId(), to, far)
		h.count("local", err)
		if err != nil {
			return nil, err
		}
		return near, nil
	}
	limit := h.opts.OpenTimeout
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		// A node that does not answer must leave time for another one.
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := h.openAt(ctx, to, r)
	h.count("relayed", err)
	return conn, err
}

func (h *Hub) count(route string, err error) {
	outcome := "opened"
	switch {
	case errors.Is(err, errBusy):
		outcome = "busy"
	case err != nil:
		outcome = "failed"
	}
	h.metrics.dials.WithLabelValues(route, outcome).Inc()
}

// openAt opens a connection to an agent that is connected to another node. The
// connection outlives ctx.
func (h *Hub) openAt(ctx context.Context, to Cluster, r route) (net.Conn, error) {
	conn, err := h.opts.PeerConn(ctx, r.server)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(h.life)                              // the connection is of the hub, not of the call
	giveUp := context.AfterFunc(ctx, end)                                // until it is open
	stream, err := pmpb.NewAgentRelayServiceClient(conn).OpenAgent(life) //nolint:contextcheck // see above
	if err == nil {
		err = stream.Send(&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Open{Open: &pmpb.OpenAgent{
			ServerId: r.server, Cluster: to.Name, ClusterUid: r.GetClusterUid(), Id: r.GetId(),
		}}})
	}
	var first *pmpb.OpenAgentResponse
	if first, err = firstOf(stream, err); err == nil && first.GetOpened() == nil {
		err = errors.New("the node answered with something else")
	}
	if !giveUp() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, errors.New(status.Convert(err).Message())
	}
	near, far := pipe(h.opts.Node, r.GetRemoteAddress()+" through "+r.server)
	put := func(data []byte) error {
		return stream.Send(&pmpb.OpenAgentRequest{Message: &pmpb.OpenAgentRequest_Data{Data: data}})
	}
	get := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}
	if !h.crew.start(func() {
		defer end()
		// What is wrong shows at the other end of the pipe.
		_ = splice(far, carrier{ctx: stream.Context(), put: put, get: get, finish: stream.CloseSend, linger: h.opts.linger, stop: h.life.Done()}, uncounted, &h.crew)
	}) {
		end()
		return nil, errStopped
	}
	return near, nil
}

// firstOf gives the first answer on a stream whose request was sent, or the error of
// that.
func firstOf[T any](stream interface{ Recv() (T, error) }, sent error) (T, error) {
	if sent != nil && !errors.Is(sent, io.EOF) {
		var none T
		return none, sent
	}
	return stream.Recv() // which has the reason when the stream has ended
}

// dialled is a connection that this node has opened.
type dialled struct {
	net.Conn
	hub *Hub
	to  Cluster
	// server is the node that it goes through, empty for none.
	server string
	// instance is the agent's; known is the newest one that was known when it was opened.
	instance, known string
	once            sync.Once
}

// keep remembers a connection until it is closed.
func (h *Hub) keep(conn net.Conn, to Cluster, r route, newest string) net.Conn {
	d := &dialled{Conn: conn, hub: h, to: Cluster{to.Name, r.GetClusterUid()}, server: r.server, instance: r.GetInstance(), known: newest}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialled[d] = struct{}{}
	return d
}

// Close implements net.Conn.
func (d *dialled) Close() error {
	d.once.Do(func() {
		d.hub.mu.Lock()
		delete(d.hub.dialled, d)
		d.hub.mu.Unlock()
	})
	return d.Conn.Close()
}

// moveToNewer closes the connections of this node to agents of which a newer instance
// has come since, and has stood for a while: whoever uses them opens them again, to that
// one. A connection that could only be opened to an older one stays.
func (h *Hub) moveToNewer() {
	now := h.opts.Now()
	for _, d := range h.standing() {
		routes, _ := h.table.routes(d.to)
		for _, r := range routes {
			if r.GetInstance() <= max(d.instance, d.known) {
				break
			}
			if now.Sub(r.heard) >= h.opts.Settle {
				h.log.Info("a connection is moved to a newer agent", "cluster", d.to.Name, "from", d.instance, "to", r.GetInstance())
				h.metrics.moved.Inc()
				_ = d.Close() // a pipe
				break
			}
		}
	}
}

// standing are the connections that this node has opened.
func (h *Hub) standing() []*dialled {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.dialled))
}

// closeThrough closes the connections that go through a node which is not heard of any
// more: whoever uses them opens them again, another way, long before the network says
// that they are broken.
func (h *Hub) closeThrough(server string) {
	for _, d := range h.standing() {
		if d.server == server {
			_ = d.Close() // a pipe
		}
	}
}
