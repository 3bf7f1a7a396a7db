// Package daemon holds what the servers pmd and crm have in common as programs:
// how they end, how they log, and what they say about variables of oaas-rs that
// have no effect.
//
// # Exit codes
//
//	0  asked to stop, and stopped
//	1  could not start, or a part failed beyond repair
//	2  wrong usage: an error that wraps ErrUsage
package daemon
