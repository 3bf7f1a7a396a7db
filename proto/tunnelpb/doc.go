// Package tunnelpb has the messages with which an agent, the manager of a cluster that
// nobody can dial, offers connections to a package manager node that it has dialled
// itself, generated from proto/oaas/tunnel/v1.
//
// Agents and nodes of different releases talk to each other: numbers are never reused.
package tunnelpb
