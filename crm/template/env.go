package template

import (
	"cmp"
	"fmt"
	"slices"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// functionEnv returns the variables of a function container, sorted by name.
// When a name occurs twice the user's own config wins.
func functionEnv(in Input, fn *v1alpha1.FunctionSpec) []envVar {
	var out []envVar
	for k, v := range fn.Config {
		out = append(out, envVar{k, v})
	}
	if in.ODGMEnabled() {
		out = append(out,
			envVar{"ODGM_ENABLED", "true"},
			envVar{"ODGM_SERVICE", fmt.Sprintf("%s:%d", ODGMServiceName(in.Name), ServicePort)})
	}
	if peers, ok := zenohPeers(in.Environment.Router); ok {
		out = append(out, envVar{"OPRC_ZENOH_MODE", "client"}, envVar{"OPRC_ZENOH_PEERS", peers})
	}
	out = append(out, telemetryEnv(in, in.Name)...)
	return firstByName(out)
}

// firstByName sorts by name and keeps the first of equal names.
func firstByName(vars []envVar) []envVar {
	slices.SortStableFunc(vars, func(a, b envVar) int { return cmp.Compare(a.name, b.name) })
	return slices.CompactFunc(vars, func(a, b envVar) bool { return a.name == b.name })
}

// zenohPeers is the address of the router, and false if there is none.
func zenohPeers(router *Router) (string, bool) {
	if router == nil || router.Service == "" {
		return "", false
	}
	port := router.Port
	if port == 0 {
		port = ZenohPort
	}
	return fmt.Sprintf("tcp/%s:%d", router.Service, port), true
}

func envConfigurations(vars []envVar) []*corev1ac.EnvVarApplyConfiguration {
	out := make([]*corev1ac.EnvVarApplyConfiguration, len(vars))
	for i, v := range vars {
		out[i] = corev1ac.EnvVar().WithName(v.name).WithValue(v.value)
	}
	return out
}
