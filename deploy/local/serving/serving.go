package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/process"
)

// namespace of Knative's configuration.
const namespace = "knative-serving"

// stopGrace is how long the reconcilers may take to end by themselves.
const stopGrace = 5 * time.Second

// settings differ from what Knative ships: nothing can be asked for the digest of an image, there is one kind of ingress,
// and nobody has the patience for a grace period of half a minute.
var settings = map[string]map[string]string{
	"config-deployment": {
		"queue-sidecar-image":               "dev.local/queue:1",
		"registries-skipping-tag-resolving": "dev.local,index.docker.io,registry.local,ghcr.io",
	},
	"config-network":    {"ingress-class": "sim.ingress.networking.knative.dev"},
	"config-domain":     {"apps.example.test": ""},
	"config-autoscaler": {"scale-to-zero-grace-period": "6s", "stable-window": "6s"},
}

// Options of an installation.
type Options struct {
	// Cluster to install on. Required.
	Cluster *local.Cluster
	// Binaries of Knative. Required.
	Binaries *local.KnativeBinaries
	// Dir receives the log of the program. Required.
	Dir string
}

// Serving is Knative Serving on a cluster.
type Serving struct {
	opts    Options
	process *process.Process
}

// Install brings Knative to the cluster and starts its reconcilers. They may need another second before they do something.
func Install(ctx context.Context, opts Options) (*Serving, error) {
	if err := opts.Cluster.InstallCRDs(ctx, opts.Binaries.Definitions); err != nil {
		return nil, err
	}
	if _, err := opts.Cluster.Kubectl(ctx, "apply", "--server-side", "--output=name", "--filename="+opts.Binaries.Configuration); err != nil {
		return nil, err
	}
	core, err := corev1client.NewForConfig(opts.Cluster.RESTConfig())
	if err != nil {
		return nil, fmt.Errorf("client for Knative's configuration: %w", err)
	}
	if err := configure(ctx, core); err != nil {
		return nil, err
	}
	started, err := process.Start(process.Spec{
		Name: "knative", Path: opts.Binaries.Program, Args: []string{"--kubeconfig=" + opts.Cluster.Kubeconfig},
		Env: []string{"HOME=" + opts.Dir, "PATH=" + os.Getenv("PATH")}, LogFile: filepath.Join(opts.Dir, "knative.log"),
	})
	if err != nil {
		return nil, err
	}
	return &Serving{opts: opts, process: started}, nil
}

// Err tells how the reconcilers ended, nil while they run.
func (s *Serving) Err() error { return s.process.Err() }

// Stop ends the reconcilers and leaves the API and its objects.
func (s *Serving) Stop(ctx context.Context) { s.process.Stop(ctx, stopGrace) }

// Remove deletes the API, which takes all its objects along, and ends the reconcilers. They are needed until then, because
// some objects have finalizers.
func (s *Serving) Remove(ctx context.Context) error {
	_, err := s.opts.Cluster.Kubectl(ctx, "delete", "--ignore-not-found", "--filename="+s.opts.Binaries.Definitions)
	s.Stop(ctx)
	return err
}

func configure(ctx context.Context, core *corev1client.CoreV1Client) error {
	for name, data := range settings {
		patch, err := json.Marshal(map[string]any{"data": data})
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		if _, err := core.ConfigMaps(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("configure Knative: %w", err)
		}
	}
	return activator(ctx, core)
}

// activator is what the reconcilers expect to stand in for revisions without pods: a Service with one address.
func activator(ctx context.Context, core *corev1client.CoreV1Client) error {
	meta := metav1.ObjectMeta{Name: "activator-service", Namespace: namespace}
	ports := []struct {
		name             string
		port, targetPort int32
	}{{"http", 80, 8012}, {"http2", 81, 8013}, {"https", 443, 8112}}
	service := &corev1.Service{ObjectMeta: meta}
	subset := corev1.EndpointSubset{Addresses: []corev1.EndpointAddress{{IP: "10.128.255.1"}}} //nolint:staticcheck // what Knative reads
	for _, p := range ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: p.name, Port: p.port, TargetPort: intstr.FromInt32(p.targetPort)})
		subset.Ports = append(subset.Ports, corev1.EndpointPort{Name: p.name, Port: p.targetPort}) //nolint:staticcheck // as above
	}
	if _, err := core.Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the activator's Service: %w", err)
	}
	endpoints := &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{subset}} //nolint:staticcheck // as above
	if _, err := core.Endpoints(namespace).Create(ctx, endpoints, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the activator's Endpoints: %w", err)
	}
	return nil
}
