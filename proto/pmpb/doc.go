// Package pmpb has the messages among package manager nodes, generated from
// proto/oaas/pm/v1: commands of the replicated log, records of the state and its
// snapshots, what nodes ask one another, and what they say in gossip.
//
// Commands and records are stored: a number is never reused, and a meaning never
// changes without a new version of the command.
package pmpb
