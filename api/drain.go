package api

import "time"

// Drain tells clients to go to other nodes while everything is still answered:
// /readyz fails, and each answer ends its connection. Serve drains by itself when
// its context ends; a caller that has other things to do before that calls Drain
// first.
func (s *Server) Drain() { s.draining.Store(true) }

// awaitDrain returns when no client is connected any more, at the latest after
// Options.DrainTime. A connection that is closed while its client sends a request
// is a failure that the client need not have seen.
func (s *Server) awaitDrain(l *limitListener) {
	limit := time.NewTimer(s.opts.DrainTime)
	defer limit.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for l.open() > 0 {
		select {
		case <-limit.C:
			return
		case <-look.C:
		}
	}
}
