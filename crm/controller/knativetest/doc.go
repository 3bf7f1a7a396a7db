// Package knativetest has the tests of the controller with Knative.
//
// Purpose: Knative's API is the cluster's, and its own reconcilers take their time. So these tests have a package and with it
// a cluster of their own, beside the tests of package controller.
package knativetest
