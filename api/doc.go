// Package api is the REST interface of the package manager: routes, decoding,
// consistency modes, preconditions, forwarding to the leader, problems.
//
// # Flow of a request
//
//  1. observe gives it an id and a deadline, and afterwards logs, counts and, if
//     it panicked, answers it.
//  2. The router finds the resource by its path, still percent-encoded; the
//     resource finds the handler by method.
//  3. A read takes one immutable snapshot of the state, as fresh as the request
//     asks for, and answers from it alone.
//  4. A write is decoded and bounded on whatever node it reached, and then run
//     where the leader is: here, or over one hop of pmpb.ForwardService through
//     the same handler. While there is no leader it is held for a moment.
//
// # Invariants
//
//   - Nothing from outside is unbounded: connections, headers, bodies, their
//     nesting, the memory that all bodies take together, and time.
//   - A refusal of a write that says "nothing was done" is true. When a request
//     was sent to the leader and no answer came, the answer is outcome-unknown,
//     unless the client's Idempotency-Key makes it safe to ask again.
//   - A forwarded request is never forwarded again.
//   - Every error has one code, which maps to one status and one problem type
//     (ProblemTypes), and carries the text that clients of the older system read
//     in the member "error".
//   - The state decides; this package keeps nothing between requests.
package api
