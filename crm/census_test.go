package crm

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"oaas.io/control-plane/deploy/local/localtest"
	"oaas.io/control-plane/proto/oaaspb"
)

// What a cluster has, and what the pods of all namespaces leave of it, is told to the
// package manager.
func TestCensus(t *testing.T) {
	cluster := localtest.Cluster(t)
	admin, err := kubernetes.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, cluster.RESTConfig(), fmt.Sprintf("census-%d", time.Now().UnixNano()), func(o *Options) { o.CensusInterval = 50 * time.Millisecond })
	info := func() *oaaspb.ClusterInfo {
		out, err := r.agent.GetClusterInfo(r.ctx(), &oaaspb.GetClusterInfoRequest{})
		if err != nil {
			return nil
		}
		return out
	}
	free := func() (millicores, bytes uint64) {
		res := info().GetResources()
		return res.GetFreeMillicores(), res.GetFreeBytes()
	}
	nodes, err := admin.CoreV1().Nodes().List(r.ctx(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all uint64
	for _, n := range nodes.Items {
		all += uint64(n.Status.Allocatable.Cpu().MilliValue())
	}
	r.eventually("all nodes are counted", func() bool {
		res := info().GetResources()
		return res != nil && res.GetAllocatableMillicores() == all && res.FreeMillicores != nil && res.GetFreeMillicores() <= all && res.GetAllocatableBytes() > 0
	})
	if !slices.Contains(info().GetCapabilities(), "arch:"+nodes.Items[0].Labels[corev1.LabelArchStable]) {
		t.Errorf("capabilities %v", info().GetCapabilities())
	}

	var zones []string
	for i := range nodes.Items {
		zones = append(zones, nodes.Items[i].Labels[corev1.LabelTopologyZone])
	}
	slices.Sort(zones)
	if got := info().GetNodeZones(); !slices.Equal(got, slices.Compact(zones)) {
		t.Errorf("zones %v, want %v", got, zones)
	}
	r.eventually("the API server's latency is measured", func() bool { return info().GetApiServerLatencyUs() > 0 })
	if got := info().GetKnativeVersion(); got != "" {
		t.Errorf("Knative %q", got)
	}

	cpu, memory := free()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "guest", Namespace: r.namespace},
		Spec: corev1.PodSpec{
			NodeName: nodes.Items[0].Name, AutomountServiceAccountToken: new(bool),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "main", Image: "guest:1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			}}}},
		},
	}
	if _, err := admin.CoreV1().Pods(r.namespace).Create(r.ctx(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually("a pod takes room", func() bool {
		c, m := free()
		return c == cpu-250 && m == memory-64<<20
	})
	now := int64(0)
	if err := admin.CoreV1().Pods(r.namespace).Delete(r.ctx(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	r.eventually("its room is free again", func() bool {
		c, m := free()
		return c == cpu && m == memory
	})
}
