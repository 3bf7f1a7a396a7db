// Package discovery finds out which cluster managers (CRMs) there may be.
//
// What it finds are [Candidate]s: hints, never authority. The leader asks each
// candidate over gRPC who it is before it becomes part of the state, and
// nothing is ever removed from the state because it is missing here.
//
// # Flow
//
// There are three sources. [Static] reads the environment variables that name
// clusters. Gossip needs no list: every CRM runs an [Announcer], every PM node an
// [Observer]; both are members of one memberlist pool, which they enter through
// any PM node. Agents, CRMs that have connected to a PM node themselves, are found
// by package tunnel. [Merge] puts the sources together, [Directory] serves the result.
//
// # Gossip
//
// A member is called role/name/instance, where instance is different for every
// start of a process. A CRM that comes back under another address is therefore
// a new member of the same cluster, and no address conflict. As long as the old
// one is not known to be gone, both are candidates, the newer one first.
//
// memberlist calls its delegates under its own lock, and from the loop that
// receives packets. They copy what they are given into a table of ours and
// return; they never wait and never call back into memberlist.
//
// The pool heals itself: addresses from the join list that no live member has
// are resolved and tried again, quickly while the node is alone and slowly
// after that. So the start order does not matter, and a pool that fell apart or
// was restarted as a whole comes together again.
//
// # Invariants
//
//   - Members that say something malformed, oversized or contradictory about
//     themselves are refused before they enter the pool's view of this node. The
//     number of members is bounded.
//   - With a key nothing is accepted that is not encrypted with it.
//   - Whether a CRM speaks TLS is a part of its address. What certificate it must
//     have is configuration only: no member can say so of itself.
//   - Static configuration wins over what is found, and an agent over gossip, by name.
//   - Nothing panics on configuration: every mistake is an error that names the
//     variable.
package discovery
