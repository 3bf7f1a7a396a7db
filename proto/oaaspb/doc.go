// Package oaaspb has the wire types of OaaS, generated from proto/oaas: what the
// REST models are on the wire, what the package manager and the class runtime
// managers say to one another, and the services they do it with.
//
// Names and numbers are those of oaas-rs. What this implementation adds stands in
// new messages and under new numbers, so that either side may be the older one.
package oaaspb
