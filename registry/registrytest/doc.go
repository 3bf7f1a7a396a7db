// Package registrytest has a registry.Store without Raft for tests: the real
// state machine behind a mutex, applied in order, always leading.
package registrytest
