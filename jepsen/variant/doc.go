// Package variant builds the programs with one guard taken out. A harness that does not
// find what is known to be broken proves nothing about what it does not find.
//
// # Flow
//
// Every variant has a diff in guards/, which replaces a few lines at the seam of its guard.
// Build applies it to copies of the files that it names, and hands the copies to the
// compiler as an overlay: the files of the tree stay as they are, and nothing that is
// released knows of the variants. Prove (oaas-chaos prove) builds each of them and lets the
// harness look for what must be wrong then.
//
// # Invariants
//
//   - No guard can be taken out at run time, by configuration or otherwise.
//   - A diff applies only if all lines that it replaces, with those around them, are found
//     exactly once. When a guard is rewritten its variant fails to build, which a test
//     finds; it never builds with the guard still in.
//   - A program that lacks a guard says so: its version ends in "+without-" and the guard's
//     name, and it warns when it starts.
package variant
