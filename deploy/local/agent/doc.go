// Package agent is a cluster's manager that keeps everything in memory: it speaks to the Package Manager what crm speaks, and
// reports every unit as running the moment it is stored.
//
// Purpose: measurements of the Package Manager need clusters with a hundred thousand units, which no Kubernetes on one machine
// carries and which would measure Kubernetes.
//
// Flow: Start listens on loopback. Deploy and DeleteDeployment follow the rules of fences and tombstones. WatchRuntimes sends
// the whole inventory, says that it is complete, and then every change. Unplug and Plug take the cluster off the network and
// bring it back. A Behaviour other than Faithful makes the agent one of the ways in which a manager can be broken or malicious.
//
// Invariants:
//   - A watcher that is slow or stands still holds nobody up and costs no more memory than there are objects: what waits for it
//     is kept by object, and only the newest change of each.
//   - The order (epoch, fence) of an object never falls, and nothing comes back from below its tombstone.
package agent
