// Command oaas-chaos breaks a real control plane on purpose while it is used, and judges whether it kept its promises.
//
// It exits 0 when every promise was kept, 1 when one was broken, and 2 when it was used wrongly or could not run.
package main
