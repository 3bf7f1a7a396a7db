// Package window tells whether a time lies within the windows in which something is
// permitted, for example maintenance.
//
// # Time
//
// A window opens at a time of day in the time zone that it names, and stays open for
// a duration that passes, whatever the clocks do meanwhile: four hours stay four hours
// when summer time begins. A window that opens in the hour that is left out opens at
// the moment at which the clocks are changed; one that opens in the hour that comes
// twice opens in the first of the two. It may last over midnight; its days are those
// on which it opens.
//
// The package reads no clock: the time is an argument. It needs the time zone database,
// and does not bring it: a main program that evaluates windows imports time/tzdata, so
// that machines without the database, and with another one, know the same zones.
//
// # Invariants
//
//   - No windows are always open.
//   - The answer is a function of the windows, the time and the time zone database.
//   - Until the time that is told as the next change, the answer stays the same.
package window
