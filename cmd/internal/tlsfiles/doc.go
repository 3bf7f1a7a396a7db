// Package tlsfiles makes TLS configurations from files that change: certificates
// are renewed long before a server is restarted.
//
// # Flow
//
// A Store reads a certificate with its key ([Store.KeyPair]) or a bundle of
// authorities ([Store.Pool]) once, and fails when they cannot be used. Run then looks
// at all files again and again. Server and Client describe one side of a connection;
// every handshake is made with what the files held when they were last whole.
//
// Files are compared by content: the swapped links of Kubernetes volumes, copies and
// network file systems all look alike that way. A certificate and its key are two
// files and cannot be written at once, so that what is found broken is told of only
// when it is found so twice.
//
// # Invariants
//
//   - Connections that stand are not touched: a change counts for new handshakes. Who
//     wants more asks [Pool.Vouches].
//   - What cannot be used never replaces what can: a broken file, a key that does not
//     fit, or a certificate that is not valid now, while the present one is.
//   - TLS 1.2 is the least, and nothing is resumed: who was trusted by a bundle that
//     has changed since is looked at again.
//   - Nothing of a key is in a log line, an error or a metric.
//   - Nothing here waits for a file while a handshake does.
package tlsfiles
