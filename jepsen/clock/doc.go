// Package clock moves the wall clock of one running process, and of no other.
//
// # Flow
//
// Linux maps a small library into every process, the vDSO, which reads the clocks without a
// system call. [Open] finds it in the target (/proc/PID/maps and the symbol table in its
// memory), puts a stub behind the library's end, and lets clock_gettime, gettimeofday and time
// begin with a jump to the stub, which asks the kernel by system call and adds an offset to the
// real-time clock. [Clock.Set] writes the offset; [Clock.Close] puts back what the functions
// began with.
//
// # Invariants
//
//   - Only CLOCK_REALTIME (with its coarse form, gettimeofday and time) moves. Monotonic,
//     boot and CPU clocks are the kernel's.
//   - The machine's clock is not touched, nor is any process but the target: the pages of
//     the vDSO are private to a process once they are written.
//   - No thread is ever in half-written code: the process stands still while it is written,
//     outside of what is replaced. SIGSTOP and SIGCONT do that, which a process does not see;
//     one that was stopped before stays stopped.
//
// A process that makes clock_gettime system calls itself is not fooled; Go and libc do not
// unless the kernel offers no vDSO. Children of the target that exec get their own vDSO.
package clock
