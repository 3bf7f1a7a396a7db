package localtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"oaas.io/control-plane/deploy/local"
)

// buildTimeout allows for the first build on a slow machine. `go test` has a limit of its own.
const buildTimeout = 20 * time.Minute

var shared struct {
	once    sync.Once
	cluster *local.Cluster
	err     error
}

// Main runs the tests of a package and stops the shared cluster. Call it from TestMain; the test program then ends with the
// result of the tests.
func Main(m *testing.M) {
	defer func() {
		if shared.cluster != nil {
			if err := shared.cluster.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	m.Run()
}

// Cluster returns the cluster that all tests share. Tests must not disturb it and should work in a namespace from Namespace.
func Cluster(t testing.TB) *local.Cluster {
	t.Helper()
	shared.once.Do(func() { shared.cluster, shared.err = open() })
	if shared.err != nil {
		t.Fatalf("no cluster for tests: %v", shared.err)
	}
	return shared.cluster
}

func open() (*local.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	binaries, err := local.Build(ctx, local.BuildOptions{Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	if kubeconfig := os.Getenv(local.TestKubeconfigEnv); kubeconfig != "" {
		return local.Attach(kubeconfig, binaries.Kubectl())
	}
	return local.Start(ctx, local.Options{Name: "test", Binaries: binaries})
}

// Own starts a cluster for one test and stops it with the test. An empty name in options is filled in.
func Own(t testing.TB, options local.Options) *local.Cluster {
	t.Helper()
	if options.Name == "" {
		options.Name = "own"
	}
	options.Progress = os.Stderr
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cluster, err := local.Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// Namespace makes a namespace with a new name for one test and deletes it with the test, without waiting for its end: the
// namespace controller always takes more than five seconds.
func Namespace(t testing.TB, cluster *local.Cluster) string {
	t.Helper()
	core, err := corev1client.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := core.Namespaces().Create(context.Background(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := core.Namespaces().Delete(context.Background(), namespace.Name, metav1.DeleteOptions{}); err != nil {
			t.Logf("delete namespace %s: %v", namespace.Name, err)
		}
	})
	return namespace.Name
}
