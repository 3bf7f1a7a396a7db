// Package localtest gives tests a real Kubernetes cluster.
//
// Purpose: one cluster for all tests of a package (a start costs five seconds), or for all packages of a test run, with a
// namespace of its own for each test so that tests can run in parallel.
//
// Flow: a package calls Main from its TestMain and Cluster from its tests. The first call of Cluster starts the cluster, Main
// stops it. If OAAS_TEST_KUBECONFIG names a kubeconfig, that cluster is used and left alone; `make test` starts one this way.
// A test that crashes or pauses its cluster takes one of its own with Own.
package localtest
