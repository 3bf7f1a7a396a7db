package lifecycle

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// DeploymentWorkload reads a Deployment and its pods. A nil Deployment is one
// that does not exist; the caller then still sets the name. The caller that has
// just applied the Deployment has to see to it that Generation is not older
// than what it applied: a cache that lags behind would make the previous
// rollout, which is over, look like the new one.
func DeploymentWorkload(d *appsv1.Deployment, pods []*corev1.Pod) Workload {
	if d == nil {
		return Workload{Kind: "Deployment"}
	}
	w := Workload{
		Kind: "Deployment", Name: d.Name, Exists: true, Terminating: d.DeletionTimestamp != nil,
		Generation: d.Generation, ObservedGeneration: d.Status.ObservedGeneration,
		Desired: 1, Total: d.Status.Replicas, Updated: d.Status.UpdatedReplicas, Available: d.Status.AvailableReplicas,
	}
	if d.Spec.Replicas != nil {
		w.Desired = *d.Spec.Replicas
	}
	if d.Status.ObservedGeneration >= d.Generation {
		for i := range d.Status.Conditions {
			if f := deploymentFault(&d.Status.Conditions[i]); f != nil {
				w.Faults = append(w.Faults, *f)
			}
		}
	}
	for _, pod := range pods {
		w.Faults = append(w.Faults, PodFaults(pod)...)
	}
	return w
}

// podName matches the generated names in the API server's refusals: every try
// has another one, and a message that changes on every try never rests.
var podName = regexp.MustCompile(`pods "[^"]*"`)

func deploymentFault(c *appsv1.DeploymentCondition) *Fault {
	switch {
	case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
		reason := v1alpha1.ReasonPodsRejected
		if strings.Contains(c.Message, "exceeded quota") {
			reason = v1alpha1.ReasonQuotaExceeded
		}
		return &Fault{Reason: reason, Message: podName.ReplaceAllString(c.Message, "pods"), Since: c.LastTransitionTime.Time}
	case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded":
		return &Fault{
			Reason: v1alpha1.ReasonProgressDeadlineExceeded, Message: "the Deployment's own progress deadline passed",
			Since: c.LastTransitionTime.Time,
		}
	}
	return nil
}

// PodFaults says what keeps a pod from running. Every message is the same for
// as long as the cause is.
func PodFaults(pod *corev1.Pod) []Fault {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil // it is on its way out, and its workload makes another
	}
	created := pod.CreationTimestamp.Time
	if c := podCondition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
		message, _, _ := strings.Cut(c.Message, " preemption:")
		return []Fault{{
			Reason: v1alpha1.ReasonInsufficientCapacity, Message: "no node takes a pod: " + strings.TrimSpace(message),
			Since: since(c, created), Created: created,
		}}
	}
	unready := since(podCondition(pod, corev1.ContainersReady), created)
	var out []Fault
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if reason, message := containerFault(&list[i]); reason != "" {
				out = append(out, Fault{Reason: reason, Message: message, Since: unready, Created: created})
			}
		}
	}
	if len(out) == 0 && pod.Status.Phase == corev1.PodRunning {
		out = append(out, silentContainers(pod, unready)...)
	}
	return out
}

// crashesBeforeFault is the number of restarts after which a container that
// happens to run between two crashes is still called crashing.
const crashesBeforeFault = 2

func containerFault(c *corev1.ContainerStatus) (v1alpha1.Reason, string) {
	crashed := c.LastTerminationState.Terminated
	if w := c.State.Waiting; w != nil {
		switch w.Reason {
		case "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
			return v1alpha1.ReasonImagePullFailed, withDetail(fmt.Sprintf("image %q cannot be pulled", c.Image), pullDetail(w.Message))
		case "InvalidImageName":
			return v1alpha1.ReasonImagePullFailed, fmt.Sprintf("%q is no valid image name", c.Image)
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError":
			return v1alpha1.ReasonContainerConfigError, withDetail(fmt.Sprintf("container %q cannot be started", c.Name), w.Message)
		case "CrashLoopBackOff":
			return v1alpha1.ReasonCrashLoop, crashText(c.Name, crashed)
		}
		return "", ""
	}
	if !c.Ready && c.RestartCount >= crashesBeforeFault && crashed != nil && crashed.ExitCode != 0 {
		return v1alpha1.ReasonCrashLoop, crashText(c.Name, crashed)
	}
	return "", ""
}

func crashText(name string, last *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("container %q ends again and again", name)
	if last == nil {
		return text
	}
	text += fmt.Sprintf(" (exit code %d", last.ExitCode)
	if last.Reason != "" && last.Reason != "Error" {
		text += ", " + last.Reason
	}
	return text + ")"
}

// silentContainers are those that run and do not become ready.
func silentContainers(pod *corev1.Pod, unready time.Time) []Fault {
	var out []Fault
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		if c.State.Running == nil || c.Ready {
			continue
		}
		out = append(out, Fault{
			Reason: v1alpha1.ReasonProbeFailed, Message: fmt.Sprintf("container %q runs but does not answer its probe", c.Name),
			Since: unready, Created: pod.CreationTimestamp.Time,
		})
	}
	return out
}

// pullDetail is the registry's answer. The kubelet alternates between the
// answer itself and the answer behind a note on its back-off.
func pullDetail(message string) string {
	if _, detail, found := strings.Cut(message, "ErrImagePull: "); found {
		return detail
	}
	if strings.HasPrefix(message, "Back-off pulling image") {
		return ""
	}
	return message
}

func withDetail(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}

func podCondition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// since is when the condition last changed, or otherwise.
func since(c *corev1.PodCondition, otherwise time.Time) time.Time {
	if c == nil || c.LastTransitionTime == (metav1.Time{}) {
		return otherwise
	}
	return c.LastTransitionTime.Time
}

// NodeReady says whether the kubelet of a node reports that it is ready.
func NodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
