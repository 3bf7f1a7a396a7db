// Package api is the REST interface of the package manager: routes, decoding,
// consistency modes, preconditions, forwarding to the leader, problems.
//
// # Flow of a request
//
//  1. observe gives it an id and a deadline, and afterwards logs, counts and, if
//     it panicked, answers it.
//
//  2. The router finds the resource by its path, still percent-encoded; the
//     resource finds the handler by method.
//
//  3. A read takes one immutable snapshot of the state, as fresh as the request
//     asks for, and answers from it alone.
//
//  4. A write is decoded and bounded on whatever node it reached, and then run
//     where the leader is: here, or over one hop of pmpb.ForwardService through
//     the same handler. While there is no leader it is held for a moment.
//
//  5. What is about one node, or about the leader alone, is answered there: place
//     (relay.go) resolves ?node and relays the request with its bodies, of any
//     length, over pmpb.ForwardService.Relay. The operators' handlers know nothing
//     of that. What they need of the node is in operator.go, as small interfaces in
//     the form in which it is told; adapter.go has those of package raftstore.
//
//  6. A stream of changes (watch.go) pulls from what the state remembers, at the
//     pace of its client; no client makes anybody else wait, or takes memory while it
//     does nothing. Where a request came from goes with its context into the audit log
//     (audit.go).
//
// # Invariants
//
//   - Nothing from outside is unbounded: connections, headers, bodies, their
//     nesting, the memory that all bodies take together, and time.
//   - A refusal of a write that says "nothing was done" is true. When a request
//     was sent to the leader and no answer came, the answer is outcome-unknown,
//     unless the client's Idempotency-Key makes it safe to ask again.
//   - A forwarded or relayed request is never passed on again, and is answered by
//     the server that was meant, not by whoever has its address.
//   - A stream has every change after its beginning, in order and once, or ends with
//     an error that says so. Its positions mean the same on every node.
//   - Half a body never looks whole: a relay or a stream that breaks off cuts the
//     connection.
//   - Operators are told no secrets: settings are redacted when the server is made,
//     contents of commands are told by their length.
//   - Every error has one code, which maps to one status and one problem type
//     (ProblemTypes), and carries the text that clients of the older system read
//     in the member "error".
//   - The state decides; this package keeps nothing between requests.
package api
