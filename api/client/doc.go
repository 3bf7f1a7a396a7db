// Package client speaks the REST API of the package manager. pmctl and tests use
// it; it knows the models and nothing of the server.
//
// # Flow
//
// A Client has the URLs of one or more nodes of the same cluster. Every node
// answers every request, so a call goes to the node that answered last and moves
// on to the next when that one cannot be reached or says that a later attempt
// may succeed. While an answer is awaited the node is probed now and then, so that
// a slow one is told from one that is paused, which is left. Attempts go on, with growing jittered pauses, until the call's
// context or Options.RetryFor ends.
//
// # Invariants
//
//   - Every write carries an Idempotency-Key, the same one in each attempt. A
//     retried write therefore has one effect and one answer, also when the first
//     answer was lost on the way.
//   - A call fails with *Error when a server answered with one, with
//     *UnreachableError when none answered, and with the context's error when
//     the caller ended it.
//   - Answers are bounded in size; redirects are not followed.
package client
