// Package command is pmctl: one file per command, one printer per output format.
//
// # Flow
//
// Run builds the command tree around an app, which holds everything a command
// takes from outside: streams, clock, environment, the API client. A command
// reads its arguments, calls the API, and hands what it got to a printer. The
// kinds of resources that can be listed stand in one table (resources.go): name,
// aliases, how to fetch, columns.
//
// The progress of a rollout is a pure function of the units that the API lists:
// rollout.go polls, progress.go compares two polls and words the transitions,
// live.go redraws them on a terminal, and otherwise each transition is a line.
//
// The operators' commands stand in files of their own (operator.go names them). They
// show one value as a table, JSON, YAML or by a JSONPath template (jsonpath.go), and
// go through any node. Those that read files or data directories (snapshotfile.go, raft replay) need no server.
//
// # Exit codes
//
//	0  done
//	1  failed: the server or a cluster refused, a rollout cannot complete, a check
//	   of doctor failed, histories differ, a file is damaged
//	2  usage: unknown command or flag, wrong arguments, unreadable configuration
//	3  a named object does not exist
//	4  conflict: the present state does not allow it, or would not in a dry run
//	5  no server could be reached, or the time ran out
//
// # Invariants
//
//   - Answers go to standard output, everything else to standard error: output
//     of -o json can be piped without filtering.
//   - All files are read, decoded and validated before the first write.
//   - Nothing is asked interactively; without a terminal there are no control
//     sequences.
package command
