// Package nemesis breaks a running cluster on purpose, by a plan that a seed determines, and mends it.
//
// # Purpose
//
// What the control plane promises, it promises while processes are killed, links are cut, disks lie and clocks jump. A Nemesis
// is one way to break something and to mend it again. The catalogue (All) has those that this repository knows.
//
// # Flow
//
//	Schedule   which nemesis begins when, and for how long: a pure function of the seed
//	Run        begins and ends them at their times, two at once at most, and takes down each in the history
//	Heal       repairs everything, whatever has happened before
//
// # Invariants
//
//   - A step's choices (which node, which side) come from the seed of that step and from nothing else, so that the same seed
//     breaks the same way as far as the machine lets it. Who leads at a time is up to the machine.
//   - Two nemeses overlap only when they touch different parts of the system (Part), so that the end of one never mends or
//     breaks what the other one has in hand.
//   - Whatever Begin has broken, its end mends; and when both fail, Heal does. The end of a step is called with a context of
//     its own: a run that is interrupted leaves nothing broken.
//   - A nemesis that this machine or this cluster cannot do says why (Available). It is listed with the reason, never left out
//     in silence.
//   - No nemesis takes the disks of a majority, or a disk while another copy is missing: losing acknowledged writes then would be
//     no fault of the system under test.
package nemesis
