// Command pmd is a Package Manager node: it keeps the package registry and the
// deployment plans in a Raft log, offers the REST API, and, while it leads,
// drives the clusters.
//
// This package only parses configuration, wires the parts, and turns the way
// they end into an exit code:
//
//	0  asked to stop, and stopped
//	1  could not start, or a part failed beyond repair (a broken disk, for instance)
//	2  wrong usage
package main
