// Package process runs programs that must never outlive the process that started them.
//
// Purpose: the local Kubernetes, the system runner and the tests start many servers. A Ctrl-C, a crash, a SIGKILL of the
// parent or the time limit of `go test` must leave none of them behind.
//
// Flow: Start hands the fork to one goroutine that is locked to its own operating system thread for the life of this
// process. On Linux every child asks the kernel for SIGKILL when its parent *thread* ends (PR_SET_PDEATHSIG is tied to the
// thread that forked, not to the process). The Go scheduler ends threads at its own pleasure, so a fork from an ordinary
// goroutine could kill a healthy child; the locked thread ends only together with the process.
//
// Invariants:
//   - Every child is the leader of its own session: a Ctrl-C at the terminal reaches only the parent, which then decides
//     about the order in which its children end.
//   - A child is reaped exactly once, by the goroutine that Start makes; Done is closed after that, and no signal is sent
//     to a pid afterwards (os.Process holds a pidfd on Linux and refuses).
//   - Output goes straight to a file, so a dead parent cannot block or break a child through a pipe.
//
// On other systems than Linux there is no parent-death signal: children end with Ctrl-C and with an orderly Stop, but
// survive a SIGKILL of the parent.
package process
