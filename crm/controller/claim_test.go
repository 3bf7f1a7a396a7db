package controller

import "testing"

// Only what a person scales by hand is up for negotiation: not what this manager or an
// autoscaler left, whatever the program is called that the autoscaler is a part of.
func TestNegotiableReplicas(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`conflict with "kubectl" with subresource "scale" using apps/v1`:                 true,
		`conflict with "kubectl-edit" using apps/v1`:                                     true,
		`conflict with "kube-controller-manager" using apps/v1`:                          true,
		`conflict with "kube-controller-manager" with subresource "scale" using apps/v1`: false,
		`conflict with "k3s" with subresource "scale" using apps/v1`:                     false,
		`conflict with "kubelite" with subresource "scale" using apps/v1`:                false,
		`conflict with "oaas-crm-scale" using apps/v1`:                                   false,
	} {
		if got := (claim{path: ".spec.replicas", text: text}).negotiable(); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
		if (claim{path: ".spec.template", text: text}).negotiable() {
			t.Errorf("%s: the template is not negotiable", text)
		}
	}
}
