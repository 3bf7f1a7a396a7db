// Command oaas-local runs Kubernetes clusters, and the whole product on top of them, on this machine.
//
// Purpose: the first look (demo), the end-to-end check (smoke), and clusters to develop against (build, up).
//
// Flow: every command builds what is missing, starts clusters and processes on loopback through the packages local and
// system, and ends them all when it ends. demo drives the product with pmctl as a user would. smoke drives the REST API and
// judges by what client-go reads from the Kubernetes API servers, against expectations that are worked out here from the
// submitted documents and not by the product's own code.
package main
