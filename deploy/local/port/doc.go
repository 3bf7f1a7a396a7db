// Package port hands out loopback TCP and UDP ports to programs that must be told their port before they start.
//
// The usual trick (listen on port 0, close, pass the number on) fails in two ways: two processes can be given the same
// port, and the kernel can use the port as the source of an outgoing connection while the program is down for a restart.
// So the ports here lie below the kernel's range for outgoing connections, each is reserved by a lock on a file for as long
// as its Lease lives (the kernel lets go of the lock when the holder dies, however it dies), and each is tried by binding.
// What remains is a foreign program that takes the port later; whoever starts a server on a leased port retries with a new
// lease when binding fails.
package port
