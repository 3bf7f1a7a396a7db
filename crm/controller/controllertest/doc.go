// Package controllertest runs the controller for tests, on a real Kubernetes.
//
// Purpose: the tests of the controller are several packages, because a package's tests are to run alone in under a minute. What
// they share is here; it has no tests itself.
//
// Flow: a test calls Start, which runs a controller in a namespace of its own on the cluster of localtest, makes classes and
// waits for what becomes of them (Settled, Degraded, Eventually). The controller ends with the test. A test package calls
// localtest.Main from its TestMain.
package controllertest
