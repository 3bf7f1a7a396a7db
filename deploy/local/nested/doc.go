// Package nested builds the programs of the nested Go modules in deploy/local into a cache that all checkouts of a user share.
//
// Purpose: the local Kubernetes and Knative's reconcilers bring thousands of packages that the product does not use, so each
// has a module of its own. Building them takes minutes, and many test packages, which run as separate processes, want the
// result at the same time.
//
// Flow: the name of a build is a hash of all that decides about its result: go.mod, go.sum, the module's own source, the Go
// version. If a folder of that name is in the cache, it is used. Else one process builds into a folder beside it and renames
// that, while the others wait for its lock.
//
// Invariants:
//   - A folder in the cache is complete, and is never changed.
//   - The lock ends with its holder (package filelock), and the Go command with the process that started it (package process).
package nested
