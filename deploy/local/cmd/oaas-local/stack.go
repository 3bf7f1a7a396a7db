package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/deploy/local/workdir"
)

// What demo and smoke run.
const (
	clusterCount = 2
	nodeCount    = 3
)

// stack is two Kubernetes clusters with the product on top.
type stack struct {
	clusters []*local.Cluster
	system   *system.System
	bin      string
	// scratch is a directory that goes with the stack.
	scratch *workdir.Dir
}

// stackOptions are the flags that demo and smoke share.
type stackOptions struct {
	bin string
	dir string
	tls bool
	// pmArgs and crmArgs are added to the command line of every pmd or crm.
	pmArgs, crmArgs []string
}

func (o *stackOptions) bind(fs *pflag.FlagSet) {
	fs.StringVar(&o.bin, "bin", "", "directory of pmd, crm and pmctl (default: build them)")
	fs.BoolVar(&o.tls, "tls", false, "let pmd and crm speak TLS, with certificates on both sides that are made for this system")
	fs.StringArrayVar(&o.pmArgs, "pm-arg", nil, "argument for every pmd, for instance --pm-arg=--profile=fast; can be repeated")
	fs.StringArrayVar(&o.crmArgs, "crm-arg", nil, "argument for every crm; can be repeated")
	fs.StringVar(&o.dir, "dir", "", "keep data and logs in this directory (default: a temporary one, removed at the end)")
}

// programs makes sure that pmd, crm and pmctl exist and returns their directory.
func (o *stackOptions) programs(ctx context.Context, scratch string) (string, error) {
	if o.bin != "" {
		return filepath.Abs(o.bin)
	}
	dir := filepath.Join(scratch, "bin")
	return dir, system.Build(ctx, dir)
}

// newStack prepares the programs; clusters and system are started by the caller one after the other, so that it can time them.
func newStack(ctx context.Context, options *stackOptions) (*stack, error) {
	scratch, err := workdir.New("", "stack")
	if err != nil {
		return nil, err
	}
	s := &stack{scratch: scratch}
	if s.bin, err = options.programs(ctx, scratch.Path); err != nil {
		s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
		return nil, err
	}
	return s, nil
}

func (s *stack) startClusters(ctx context.Context, progress io.Writer) error {
	root, err := local.SourceRoot()
	if err != nil {
		return err
	}
	s.clusters, err = startClusters(ctx, clusterCount, local.Options{
		Progress: progress, CRDs: []string{filepath.Join(root, "deploy", "crd")},
	})
	if err != nil {
		return err
	}
	for _, c := range s.clusters {
		if err := createNamespace(ctx, c, system.DefaultNamespace); err != nil {
			return err
		}
	}
	return nil
}

func createNamespace(ctx context.Context, c *local.Cluster, name string) error {
	core, err := corev1client.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	_, err = core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s in %s: %w", name, c.Name, err)
	}
	return nil
}

// startSystem starts the nodes and a crm per cluster, each in its own region and zone. The last one stands for a cluster behind
// address translation: its crm dials the nodes.
func (s *stack) startSystem(ctx context.Context, from *stackOptions) error {
	options := system.Options{Bin: s.bin, Dir: from.dir, Nodes: nodeCount, TLS: from.tls, PMArgs: from.pmArgs, CRMArgs: from.crmArgs}
	for i, c := range s.clusters {
		region := fmt.Sprintf("region-%d", i+1)
		options.Clusters = append(options.Clusters, system.Cluster{
			Name: c.Name, Region: region, Zone: region + "-a", Kubeconfig: c.Kubeconfig, Edge: i == len(s.clusters)-1,
		})
	}
	var err error
	s.system, err = system.Start(ctx, options)
	return err
}

// stop ends everything, in the reverse order of the start.
func (s *stack) stop() {
	if s.system != nil {
		if err := s.system.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	stopClusters(s.clusters)
	if err := s.scratch.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// exampleFiles are the documents that demo submits.
func exampleFiles() ([]string, error) {
	root, err := local.SourceRoot()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "examples", "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no examples in %s", filepath.Join(root, "deploy", "examples"))
	}
	return files, nil
}
