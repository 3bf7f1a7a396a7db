// Command knative runs Knative Serving's own reconcilers in one process, for the tests on a local Kubernetes.
//
// Everything but the traffic is Knative's: the reconcilers of its controller and the pod autoscaler of its autoscaler. Three
// parts of the data plane are played here, all of them without a listener, because this runs beside other programs on loopback:
//
//   - The load: how many pods a revision should have is an annotation of its PodAutoscaler, see deciders.go.
//   - The ingress controller: an Ingress is ready at once, or stays stuck if an annotation says so, see ingress.go.
//   - The activator and the image registries, which the reconcilers ask over HTTP, answer in memory, see network.go.
package main

import (
	"flag"
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/pkg/signals"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the administrator's kubeconfig of the cluster")
	ready := flag.String("ready-file", "", "a file to make once the reconcilers run")
	verbose := flag.Bool("verbose", false, "also log what is not a warning")
	flag.Parse()
	if err := start(*kubeconfig, *ready, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "knative:", err)
		os.Exit(1)
	}
}

func start(kubeconfig, ready string, verbose bool) error {
	if err := settle(); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	// The API server limits its clients by itself.
	config.QPS, config.Burst = 200, 400
	return run(signals.NewContext(), config, ready, verbose)
}

// settle gives Knative's packages what a Deployment would give them as environment.
func settle() error {
	for name, value := range map[string]string{
		"SYSTEM_NAMESPACE":          "knative-serving",
		"CONFIG_LOGGING_NAME":       "config-logging",
		"CONFIG_OBSERVABILITY_NAME": "config-observability",
		"METRICS_DOMAIN":            "knative.dev/serving",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
