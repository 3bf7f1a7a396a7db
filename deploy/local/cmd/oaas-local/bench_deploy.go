package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/system"
)

const benchPackage = `{"name":"bench","classes":[{"key":"Probe","function_bindings":[
	{"name":"one","function_key":"Probe.one","access_modifier":"PUBLIC"},{"name":"two","function_key":"Probe.two","access_modifier":"PUBLIC"}]}],
	"functions":[{"key":"Probe.one","provision_config":{"container_image":"registry.example.com/bench/one:1","min_scale":2}},
	{"key":"Probe.two","provision_config":{"container_image":"registry.example.com/bench/two:1"}}]}`

// benchDeployments posts deployments one after the other through all nodes in
// turn, and compares the time until they are available with the same objects
// applied by kubectl.
func (s *stack) benchDeployments(ctx context.Context, rounds int) ([]bench.Result, error) {
	if _, err := s.system.PMs[0].Client().Do(ctx, http.MethodPost, "/api/v1/packages", []byte(benchPackage), nil); err != nil {
		return nil, err
	}
	var posts, available, direct []time.Duration
	for i := range rounds {
		pm := s.system.PMs[i%len(s.system.PMs)]
		key := fmt.Sprintf("bench.Probe-%d", i)
		body := fmt.Appendf(nil, `{"key":%q,"package_name":"bench","class_key":"Probe","target_envs":[%q,%q]}`, key, s.clusters[0].Name, s.clusters[1].Name)
		began := time.Now()
		if _, err := pm.Client().Do(ctx, http.MethodPost, "/api/v1/deployments", body, nil); err != nil {
			return nil, err
		}
		answered := time.Now()
		posts = append(posts, answered.Sub(began))
		if err := pm.Client().WaitAvailable(ctx, key); err != nil {
			return nil, err
		}
		available = append(available, time.Since(answered))
		if i%10 == 0 {
			took, err := s.applyDirectly(ctx, pm, key)
			if err != nil {
				return nil, err
			}
			direct = append(direct, took)
			fmt.Fprintf(os.Stderr, "deployment %d of %d: answered in %s, available %s later, by kubectl in %s\n", i+1, rounds, posts[i].Round(time.Microsecond), available[i].Round(time.Millisecond), took.Round(time.Millisecond))
		}
		if err := s.removeAndWait(ctx, pm, key); err != nil {
			return nil, err
		}
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	extra := bench.Quantile(available, 0.5) - bench.Quantile(direct, 0.5)
	worst := bench.Quantile(available, 0.99) - bench.Quantile(direct, 0.5)
	return []bench.Result{
		bench.AtMost("post_deployment_p99", ms(bench.Quantile(posts, 0.99)), 50, "ms", fmt.Sprintf("%d posts in turn through three nodes, two of them followers; each to two clusters", rounds)),
		bench.Info("post_deployment_p50", ms(bench.Quantile(posts, 0.5)), "ms", ""),
		bench.AtMost("available_beyond_kubectl_p50", extra.Seconds(), 3, "s", fmt.Sprintf("from the answer to RUNNING in both clusters (p50 %.3f s), less kubectl apply of the same objects until available (p50 %.3f s)", bench.Quantile(available, 0.5).Seconds(), bench.Quantile(direct, 0.5).Seconds())),
		bench.AtMost("available_beyond_kubectl_p99", worst.Seconds(), 3, "s", "p99 of the former, less p50 of kubectl"),
	}, nil
}

func (s *stack) removeAndWait(ctx context.Context, pm *system.PM, key string) error {
	if _, err := pm.Client().Do(ctx, http.MethodDelete, "/api/v1/deployments/"+key, nil, nil); err != nil {
		return err
	}
	return system.Poll(ctx, "deletion of "+key+" is complete", func(ctx context.Context) (bool, error) {
		deletions, err := pm.Client().Deletions(ctx)
		return err == nil && len(deletions) == 0, err
	})
}

// applyDirectly copies what the product made of a deployment under other names,
// applies it with kubectl to every cluster, and gives the time from kubectl's
// end until all of it is available.
func (s *stack) applyDirectly(ctx context.Context, pm *system.PM, key string) (time.Duration, error) {
	ids, err := pm.Client().UnitIDs(ctx, key)
	if err != nil {
		return 0, err
	}
	manifests, deployments := map[*local.Cluster][]byte{}, map[*local.Cluster][]string{}
	for _, c := range s.clusters {
		manifest, names, err := copyObjects(ctx, c, ids[c.Name])
		if err != nil {
			return 0, err
		}
		// The names differ between clusters, because each has a unit of its own.
		manifests[c], deployments[c] = manifest, names
	}
	for _, c := range s.clusters {
		if err := kubectl(ctx, c, manifests[c], "apply", "-f", "-"); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for _, c := range s.clusters {
		if err := waitDeployments(ctx, c, deployments[c]); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	for _, c := range s.clusters {
		if err := kubectl(ctx, c, manifests[c], "delete", "--wait", "-f", "-"); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// copyObjects renders the Deployments and Services of a ClassRuntime as a
// manifest of independent objects.
func copyObjects(ctx context.Context, c *local.Cluster, runtime string) (manifest []byte, deployments []string, err error) {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return nil, nil, err
	}
	list := metav1.ListOptions{LabelSelector: "oaas.io/owner=" + runtime}
	workloads, err := client.AppsV1().Deployments(system.DefaultNamespace).List(ctx, list)
	if err != nil {
		return nil, nil, err
	}
	services, err := client.CoreV1().Services(system.DefaultNamespace).List(ctx, list)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	for _, d := range workloads.Items {
		name := "direct-" + d.Name
		deployments = append(deployments, name)
		copied := appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: d.Namespace}, Spec: d.Spec}
		relabel(copied.Spec.Selector.MatchLabels)
		relabel(copied.Spec.Template.Labels)
		if err := appendYAML(&out, copied); err != nil {
			return nil, nil, err
		}
	}
	for _, svc := range services.Items {
		copied := corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Name: "direct-" + svc.Name, Namespace: svc.Namespace}}
		copied.Spec.Ports, copied.Spec.Selector = svc.Spec.Ports, svc.Spec.Selector
		relabel(copied.Spec.Selector)
		if err := appendYAML(&out, copied); err != nil {
			return nil, nil, err
		}
	}
	if len(deployments) == 0 {
		return nil, nil, fmt.Errorf("class runtime %q has no deployments in %s", runtime, c.Name)
	}
	return out.Bytes(), deployments, nil
}

// relabel keeps the copy's pods out of the original's selectors.
func relabel(labels map[string]string) {
	for k, v := range labels {
		labels[k] = v + "-direct"
	}
}

func appendYAML(out *bytes.Buffer, object any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(data)
	if err != nil {
		return err
	}
	out.WriteString("---\n")
	out.Write(text)
	return nil
}

// waitDeployments waits until all pods of the deployments are available.
func waitDeployments(ctx context.Context, c *local.Cluster, names []string) error {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	for _, name := range names {
		err := system.Poll(ctx, "deployment "+name+" is available", func(ctx context.Context) (bool, error) {
			d, err := client.AppsV1().Deployments(system.DefaultNamespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			want := int32(1)
			if d.Spec.Replicas != nil {
				want = *d.Spec.Replicas
			}
			return d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas >= want, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func kubectl(ctx context.Context, c *local.Cluster, input []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, c.KubectlPath, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %v: %w: %s", args, err, out)
	}
	return nil
}
