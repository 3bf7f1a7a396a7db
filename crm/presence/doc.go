// Package presence knows which optional APIs a cluster has at the moment.
//
// # Flow
//
// A Watcher asks the API server's discovery for each API at its own interval and
// remembers the answer. Whoever depends on an API asks Has, and waits on Changed for the
// next difference.
//
// # Invariants
//
//   - Discovery is open to every authenticated account unless somebody closed it, so
//     no rights are asked for.
//   - Only an answer of the API server changes what is known: an API server that is away
//     takes nothing away.
//   - Before the first answer nothing is known, and Known says so: an API that was not
//     asked for yet is not one that is absent.
package presence
