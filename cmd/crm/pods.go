package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"oaas.io/control-plane/crm/template"
)

// podFlags are the settings of all pods of the cluster.
type podFlags struct {
	serviceAccount string
	pullSecrets    []string
	pullPolicy     string
	nodeSelector   map[string]string
	tolerations    []string
	priorityClass  string
	security       string
	cpuRequest     string
	memoryRequest  string
	spread         bool
	budget         bool
	networkPolicy  string
	networkFrom    []string
	locked         []string
}

func (p *podFlags) bind(fs *pflag.FlagSet) {
	fs.StringVar(&p.serviceAccount, "pod-service-account", "", "service account of all pods (default: the namespace's, without its token)")
	fs.StringSliceVar(&p.pullSecrets, "pod-pull-secrets", nil, "names of the secrets with which all pods pull their images")
	fs.StringVar(&p.pullPolicy, "pod-pull-policy", "", "Always, IfNotPresent or Never: when nodes pull images (default: the cluster's)")
	fs.StringToStringVar(&p.nodeSelector, "pod-node-selector", nil, "labels of the nodes on which all pods run, key=value")
	fs.StringSliceVar(&p.tolerations, "pod-tolerations", nil, "taints of nodes that all pods tolerate, key[=value][:effect] or *")
	fs.StringVar(&p.priorityClass, "pod-priority-class", "", "priority class of all pods (default: the cluster's)")
	fs.StringVar(&p.security, "pod-security", "", "none, baseline (no escalation of privileges) or restricted (no root either): how all pods are confined (default: baseline, none with the template dev)")
	fs.StringVar(&p.cpuRequest, "pod-cpu-request", "", "CPU request of containers that name neither request nor limit, 0 for none (default: 50m, none with the template dev)")
	fs.StringVar(&p.memoryRequest, "pod-memory-request", "", "memory request of containers that name neither request nor limit, 0 for none (default: 64Mi, none with the template dev)")
	fs.BoolVar(&p.spread, "pod-spread", true, "keep the pods of a function in different zones and on different nodes, as far as there are any (not with the template dev)")
	fs.BoolVar(&p.budget, "pod-disruption-budget", true, "let one pod of a function at a time be evicted (not with the template dev)")
	fs.StringVar(&p.networkPolicy, "pod-network-policy", "none", "none, or namespace: only pods of the namespace may call functions and object stores")
	fs.StringSliceVar(&p.networkFrom, "pod-network-from", nil, "further namespaces and address ranges (CIDR) that may call them")
	fs.StringSliceVar(&p.locked, "pod-locked", nil, "members of pods that classes may not set in this cluster, such as service_account")
}

// options are the settings as the templates take them, or what is wrong with them.
func (p *podFlags) options() (template.PodOptions, error) {
	out := template.PodOptions{
		ServiceAccount: p.serviceAccount, PullSecrets: p.pullSecrets, PullPolicy: p.pullPolicy, NodeSelector: p.nodeSelector,
		PriorityClass: p.priorityClass, Security: template.PodSecurity(p.security),
		CPURequest: p.cpuRequest, MemoryRequest: p.memoryRequest,
		NetworkPolicy: template.NetworkPolicy(p.networkPolicy), NetworkFrom: p.networkFrom, Locked: p.locked,
	}
	// Without a word the template decides, since dev has neither.
	off := false
	if !p.spread {
		out.Spread = &off
	}
	if !p.budget {
		out.DisruptionBudget = &off
	}
	for _, text := range p.tolerations {
		toleration, err := template.ParseToleration(text)
		if err != nil {
			return out, fmt.Errorf("--pod-tolerations: %w", err)
		}
		out.Tolerations = append(out.Tolerations, toleration)
	}
	return out, out.Validate()
}
