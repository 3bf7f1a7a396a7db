// Package clock moves the wall clock of one running process, and of no other.
//
// # Flow
//
// Linux maps a small library into every process, the vDSO, which reads the clocks without a
// system call. [Open] finds it in the target (/proc/PID/maps and the symbol table in its
// memory), stops the process, and puts a stub in place of clock_gettime, gettimeofday and
// time that asks the kernel by system call and adds an offset to the real-time clock; [Set]
// writes the offset; [Clock.Close] puts the original code back.
//
// # Invariants
//
//   - Only CLOCK_REALTIME (with its coarse form, gettimeofday and time) moves. Monotonic,
//     boot and CPU clocks are the kernel's.
//   - The machine's clock is not touched, nor is any process but the target: the pages of
//     the vDSO are private to a process once they are written.
//   - No thread is ever in half-written code: the process stands still while code is
//     written, outside the code that is replaced.
//
// A process that makes clock_gettime system calls itself is not fooled; Go and libc do not
// unless the kernel offers no vDSO. Children of the target that exec get their own vDSO.
package clock
