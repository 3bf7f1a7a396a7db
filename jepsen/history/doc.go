// Package history is the record of a run: what was asked, what came back, what was broken
// meanwhile. Checks and reports are functions of it.
//
// Times are durations since the run began, by the monotonic clock of the one process that
// records; the histories of all workloads can therefore be compared.
package history
