// Package pki makes certificates for local clusters and for tests: authorities, and what they sign, with keys that nobody else
// has.
//
// Flow: NewAuthority makes an authority, Issue signs a template with it. A Pair is a certificate with its key, both also as PEM,
// and Write puts them into files.
//
// Invariant: keys are written for their owner alone.
package pki
