// Package netlab is a laboratory of hosts on one machine: each is a network namespace, and a switch in user space joins them.
//
// Purpose: a test that breaks the network between real processes must be able to lose, hold and slow single packets between
// any two of them, in one direction alone, and see what real TCP makes of it. Traffic control of the kernel cannot be relied
// on (modules are missing in small virtual machines), and firewalls know neither delay nor a rate.
//
// Flow: every host has a TUN device, whose other end is a file of this process. A goroutine per host reads the packets that
// the host sends, looks up the pair of sender and receiver, and writes each packet to the device of the receiver, unless the
// rules of the pair lose it or hold it. What is held waits in one heap for its time.
//
// A host is served by a thread of its own, which stays in the namespace: processes are forked from it, and inherit both the
// namespace and its death (package process). Processes see all hosts by name in an /etc/hosts of their own, so that a host
// can change its address while it keeps its name.
//
// Invariants:
//   - Nothing is left behind, whatever ends this process: namespaces have no name, devices live as long as their file, the
//     /etc/hosts of a process is on a file system that only its own mount namespace knows, and children die with us.
//   - Nothing leaves the laboratory: a host has no route but to the others.
//   - A packet without rules costs one read, one write, two look-ups and no memory.
//   - Packets of a pair keep their order, as on the path of one route, also under jitter.
//   - What a pair loses and by how much it varies is a function of the seed, the pair and the packets that its rules have met.
//   - Addresses are not used again, so that a packet that was held never comes to somebody else.
package netlab
