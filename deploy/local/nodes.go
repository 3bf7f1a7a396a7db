package local

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/deploy/local/process"
)

// zones are the suffixes over which nodes are spread in turn.
const zones = "abc"

// newNode is the i-th simulated node, counted from 0.
func newNode(cluster string, i int) *corev1.Node {
	name := fmt.Sprintf("%s-node-%d", cluster, i+1)
	size := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("32"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("500"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname:       name,
				corev1.LabelOSStable:       "linux",
				corev1.LabelArchStable:     "amd64",
				corev1.LabelTopologyRegion: cluster,
				corev1.LabelTopologyZone:   cluster + "-" + zones[i%len(zones):i%len(zones)+1],
			},
			// Where a metrics server finds the usage of this node's pods.
			Annotations: map[string]string{"metrics.k8s.io/resource-metrics-path": "/metrics/nodes/" + name + "/metrics/resource"},
		},
		// The scheduler needs the size at once; conditions and addresses come from the simulated kubelet.
		Status: corev1.NodeStatus{Capacity: size, Allocatable: size},
	}
}

// bringUpNodes creates the nodes and waits until the simulated kubelets report them ready.
func (c *Cluster) bringUpNodes(ctx context.Context, count int) error {
	for i := range count {
		node := newNode(c.Name, i)
		err := c.Await(ctx, "node "+node.Name+" is created", func(ctx context.Context) error {
			_, err := c.core.Nodes().Create(ctx, node, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return c.Await(ctx, "all nodes are ready", func(ctx context.Context) error {
		list, err := c.core.Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if !nodeReady(&list.Items[i]) {
				return fmt.Errorf("node %s is not ready", list.Items[i].Name)
			}
		}
		return nil
	})
}

// nodeReady also wants the taint gone that the node lifecycle controller removes a moment later: until then no pod is placed.
func nodeReady(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waitDefaultAccount waits for what every pod in the namespace default needs; a pod made earlier is refused.
func (c *Cluster) waitDefaultAccount(ctx context.Context) error {
	return c.Await(ctx, "the default service account exists", func(ctx context.Context) error {
		_, err := c.core.ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Kubectl runs kubectl against the cluster and returns what it wrote to standard output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	if c.KubectlPath == "" {
		return "", errors.New("this cluster was attached to without a kubectl")
	}
	cmd := exec.CommandContext(ctx, c.KubectlPath, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	out, err := process.Output(cmd)
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// InstallCRDs applies CustomResourceDefinitions from files or directories and waits until their resources are served.
func (c *Cluster) InstallCRDs(ctx context.Context, paths ...string) error {
	args := []string{"apply", "--server-side", "--output=name"}
	for _, path := range paths {
		args = append(args, "--filename="+path)
	}
	out, err := c.Kubectl(ctx, args...)
	if err != nil {
		return fmt.Errorf("install CRDs: %w", err)
	}
	names := strings.Fields(out)
	return c.Await(ctx, "the CRDs are established", func(ctx context.Context) error {
		// `kubectl wait` refuses a CRD that has no conditions at all yet, therefore again and again.
		_, err := c.Kubectl(ctx, append([]string{"wait", "--for=condition=Established", "--timeout=10s"}, names...)...)
		return err
	})
}
