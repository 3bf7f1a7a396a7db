// Package gate stands between a program and a Kubernetes API server: it counts what the program asks, and plays the faults
// of a network and of a server under load.
//
// Purpose: whether a program rests while nothing changes, and whether it recovers from an API server that throttles, forgets
// or cannot be reached, can only be measured on the wire. A program that is given a kubeconfig of the gate needs no change.
//
// Flow: Start listens on a loopback port (Serve on a listener that it is given) and passes every request on with the credentials of the cluster, watches as they
// come. Counts tells what was asked since Reset, lease renewals apart. Throttle answers 429, ExpireWatches ends all watches
// and answers those that go on from a version with 410, Lose answers nothing at all and keeps the connections; Heal ends
// all of these.
//
// Invariants:
//   - It listens on 127.0.0.1 only, or where Serve is told to, with TLS and a token of its own: what stands behind it is an
//     administrator's access.
//   - It asks nothing by itself and changes no request but its credentials, so that one request of the program is one
//     request at the API server.
//   - While the network is lost, bytes are neither taken in nor given out nor refused; what was under way goes on when it
//     is healed, as it does over TCP. Connections end only by the hands of those at their ends.
//   - An API server that is not there breaks the connection of who asked, as it would without the gate. It is never an
//     answer of the gate's own that a program could take for one of the API server.
//   - After Close, every goroutine has ended.
package gate
