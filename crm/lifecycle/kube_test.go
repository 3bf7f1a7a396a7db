package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// pod is a running, ready pod that was created a minute before start.
func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "record-6f7d-x", CreationTimestamp: metav1.NewTime(start.Add(-time.Minute))},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(start.Add(-40 * time.Second))}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "function", Image: "registry.local/echo:1", Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func waiting(reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := &p.Status.ContainerStatuses[0]
		c.Ready, c.State = false, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
}

func crashed(restarts, code int32, reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := &p.Status.ContainerStatuses[0]
		c.Ready, c.RestartCount = false, restarts
		c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}
	}
}

func TestPodFaults(t *testing.T) {
	t.Parallel()
	unschedulable := func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodPending
		p.Status.ContainerStatuses = nil
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message:            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found.",
			LastTransitionTime: metav1.NewTime(start.Add(-50 * time.Second)),
		}}
	}
	const pull = `failed to resolve reference "registry.local/echo:1": not found`
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		reason v1alpha1.Reason
		text   string
		age    time.Duration
	}{
		"ready":                 {pod: pod()},
		"being created":         {pod: pod(waiting("ContainerCreating", ""))},
		"going":                 {pod: pod(waiting("CrashLoopBackOff", ""), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start} })},
		"evicted":               {pod: pod(waiting("CrashLoopBackOff", ""), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })},
		"unschedulable":         {pod(unschedulable), v1alpha1.ReasonInsufficientCapacity, "no node takes a pod: 0/3 nodes are available: 3 Insufficient cpu.", 50 * time.Second},
		"pull":                  {pod(waiting("ErrImagePull", pull)), v1alpha1.ReasonImagePullFailed, `image "registry.local/echo:1" cannot be pulled: ` + pull, 40 * time.Second},
		"pull, backing off":     {pod(waiting("ImagePullBackOff", `Back-off pulling image "registry.local/echo:1": ErrImagePull: `+pull)), v1alpha1.ReasonImagePullFailed, `image "registry.local/echo:1" cannot be pulled: ` + pull, 40 * time.Second},
		"pull, old kubelet":     {pod(waiting("ImagePullBackOff", `Back-off pulling image "registry.local/echo:1"`)), v1alpha1.ReasonImagePullFailed, `image "registry.local/echo:1" cannot be pulled`, 40 * time.Second},
		"image name":            {pod(waiting("InvalidImageName", "x")), v1alpha1.ReasonImagePullFailed, `"registry.local/echo:1" is no valid image name`, 40 * time.Second},
		"config":                {pod(waiting("CreateContainerConfigError", `secret "s" not found`)), v1alpha1.ReasonContainerConfigError, `container "function" cannot be started: secret "s" not found`, 40 * time.Second},
		"crash":                 {pod(crashed(1, 137, "OOMKilled"), waiting("CrashLoopBackOff", "back-off 10s")), v1alpha1.ReasonCrashLoop, `container "function" ends again and again (exit code 137, OOMKilled)`, 40 * time.Second},
		"crash, back-off grows": {pod(crashed(9, 137, "OOMKilled"), waiting("CrashLoopBackOff", "back-off 5m0s")), v1alpha1.ReasonCrashLoop, `container "function" ends again and again (exit code 137, OOMKilled)`, 40 * time.Second},
		"between two crashes":   {pod(crashed(3, 1, "Error")), v1alpha1.ReasonCrashLoop, `container "function" ends again and again (exit code 1)`, 40 * time.Second},
		"silent":                {pod(func(p *corev1.Pod) { p.Status.ContainerStatuses[0].Ready = false }), v1alpha1.ReasonProbeFailed, `container "function" runs but does not answer its probe`, 40 * time.Second},
		"init container": {pod(func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Conditions = corev1.PodPending, nil
			waiting("CreateContainerError", "")(p)
			p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
		}), v1alpha1.ReasonContainerConfigError, `container "function" cannot be started`, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []lifecycle.Fault
			if tc.reason != "" {
				want = []lifecycle.Fault{{Reason: tc.reason, Message: tc.text, Since: start.Add(-tc.age), Created: start.Add(-time.Minute)}}
			}
			if diff := cmp.Diff(want, lifecycle.PodFaults(tc.pod)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeploymentWorkload(t *testing.T) {
	t.Parallel()
	if w := lifecycle.DeploymentWorkload(nil, nil); w.Exists || w.Kind != "Deployment" {
		t.Errorf("no Deployment: %+v", w)
	}
	replicas := int32(3)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "record", Generation: 4},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 4, Replicas: 3, UpdatedReplicas: 2, AvailableReplicas: 1,
			Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: `pods "record-6f7d-x1" is forbidden: exceeded quota: q`},
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "..."},
				{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse},
			},
		},
	}
	want := lifecycle.Workload{
		Kind: "Deployment", Name: "record", Exists: true, Generation: 4, ObservedGeneration: 4,
		Desired: 3, Total: 3, Updated: 2, Available: 1,
		Faults: []lifecycle.Fault{
			{Reason: v1alpha1.ReasonQuotaExceeded, Message: "pods is forbidden: exceeded quota: q"},
			{Reason: v1alpha1.ReasonProgressDeadlineExceeded, Message: "the Deployment's own progress deadline passed"},
		},
	}
	if diff := cmp.Diff(want, lifecycle.DeploymentWorkload(d, []*corev1.Pod{pod()})); diff != "" {
		t.Error(diff)
	}
	d.Status.Conditions[0].Message = `pods "x" is forbidden: violates PodSecurity`
	if w := lifecycle.DeploymentWorkload(d, nil); w.Faults[0].Reason != v1alpha1.ReasonPodsRejected || strings.Contains(w.Faults[0].Message, `"x"`) {
		t.Errorf("%+v", w.Faults[0])
	}
	// Conditions of the previous spec say nothing about this one.
	d.Generation, d.Spec.Replicas = 5, nil
	if w := lifecycle.DeploymentWorkload(d, []*corev1.Pod{pod(waiting("InvalidImageName", ""))}); len(w.Faults) != 1 || w.Desired != 1 {
		t.Errorf("%+v", w)
	}
}
