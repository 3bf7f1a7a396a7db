// Package tunnel lets the control plane serve clusters that nobody can dial: behind
// address translation or a firewall, their managers, the agents, dial a package manager
// node and offer connections to their own gRPC services.
//
// # Flow
//
// An [Agent] keeps a few connections to the control plane, to different nodes where it
// is given several addresses. On each of them one stream of TunnelService.Connect waits.
// When the control plane wants a connection, the node says so on that stream, the agent
// offers another one, and the first carries the bytes of one connection. On the agent's
// side these are what a net.Listener accepts, on the other side a net.Conn: the same
// gRPC server and the same client run over them as over TCP.
//
// Every package manager node has a [Hub]. It takes in agents, and knows by a stream from
// each other node which agents are connected there. So every node can reach every agent:
// over a stream of its own, or over one hop to the node that has one (OpenAgent). Nothing
// depends on who leads. A new leader finds all agents where they are.
//
// # Why one stream per connection
//
// HTTP/2 multiplexes already: each stream has its own flow control with a fixed window,
// and the library that implements it defends itself against floods of pings, settings
// and resets. A multiplexer inside of one stream would do the same once more, with
// windows inside of windows. Streams need not end up at the same node either, so that a
// proxy between may balance them.
//
// # Who an agent is
//
// A cluster is its name together with the UID of its kube-system namespace. That the
// agent is entitled to the name is checked when it says hello (HubOptions.Authenticate),
// and again while its streams stand; a name that is registered with another UID is
// refused. Several managers of one cluster, replicas or a new one beside the old one, may
// be connected at the same time. New connections go to the newest one that answers, and
// those of this node that stand are moved to a newer one once it has stood for a while.
//
// # Invariants
//
//   - What one agent sends, does not send or does not read costs nobody else: streams,
//     bytes that wait, and connections are bounded for each, and nothing shared is held
//     while waiting for one.
//   - A connection goes to one manager as a whole; nothing is ever divided.
//   - What was said on a connection before one side has closed it gets to the other side,
//     unless that does not read it for some seconds.
//   - A connection is relayed once at most.
//   - A node that has lost the leader for a while keeps no agents: they are better off
//     elsewhere.
//   - Every goroutine is joined: by Hub.Run, by Agent.Run, or by the handler it is of.
package tunnel
