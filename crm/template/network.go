package template

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
)

var networkPolicyGVK = networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy")

// NetworkPolicy says who may call functions and object stores.
type NetworkPolicy string

// The policies.
const (
	// NetworkNone leaves it to the cluster, where everybody may unless it has policies of
	// its own. The word is not "off", which YAML readers take for a boolean.
	NetworkNone NetworkPolicy = "none"
	// NetworkNamespace lets in the pods of the namespace: functions, object stores,
	// gateways and routers; and what PodOptions.NetworkFrom names besides.
	NetworkNamespace NetworkPolicy = "namespace"
)

// networkObjects returns the policy of a workload that listens on these ports, or nothing
// when there is to be none. What the pods call is not limited. The peers of an object store
// in other clusters are reached by the router, which is a pod of the namespace; where they
// call directly, NetworkFrom has their addresses.
func networkObjects(in Input, c child, ports ...int32) []Object {
	if c.pods.NetworkPolicy != NetworkNamespace {
		return nil
	}
	rule := networkingv1ac.NetworkPolicyIngressRule().
		WithFrom(networkingv1ac.NetworkPolicyPeer().WithPodSelector(metav1ac.LabelSelector()))
	for _, from := range c.pods.NetworkFrom {
		rule.WithFrom(networkPeer(from))
	}
	for _, port := range ports {
		rule.WithPorts(networkingv1ac.NetworkPolicyPort().WithProtocol(corev1.ProtocolTCP).WithPort(intstr.FromInt32(port)))
	}
	p := networkingv1ac.NetworkPolicy(c.name, in.Namespace).
		WithLabels(c.labels).
		WithAnnotations(c.annotations).
		WithSpec(networkingv1ac.NetworkPolicySpec().
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(c.selector)).
			WithPolicyTypes(networkingv1.PolicyTypeIngress).
			WithIngress(rule))
	if owner := ownerReference(in); owner != nil {
		p.WithOwnerReferences(owner)
	}
	return []Object{{GVK: networkPolicyGVK, Name: c.name, Component: c.component, Function: c.function, Configuration: p}}
}

// networkPeer is a namespace, by the label that Kubernetes gives each, or an address range.
func networkPeer(from string) *networkingv1ac.NetworkPolicyPeerApplyConfiguration {
	if strings.Contains(from, "/") {
		return networkingv1ac.NetworkPolicyPeer().WithIPBlock(networkingv1ac.IPBlock().WithCIDR(from))
	}
	return networkingv1ac.NetworkPolicyPeer().
		WithNamespaceSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{corev1.LabelMetadataName: from}))
}
