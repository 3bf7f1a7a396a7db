// Package crmtest tests clusters with crm processes, which need a Kubernetes; it is apart from package cluster so that the
// tests of that one need none.
package crmtest
