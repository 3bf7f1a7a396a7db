package model

import (
	"regexp"
)

// The limits of pod settings are those of the custom resource that carries them to the
// clusters: what is accepted here must not be refused there.
const (
	maxPullSecrets  = 16
	maxNodeSelector = 32
	maxTolerations  = 32
	maxQuantity     = 64
	// maxSeconds is the largest number that every JSON reader keeps exact.
	maxSeconds = 1<<53 - 1
)

// dnsName is the form of the name of most Kubernetes objects.
var dnsName = regexp.MustCompile(`^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$`)

// pods checks pod settings. Whether a cluster has what they name is for the cluster to
// say.
func (c *checker) pods(at string, p *PodSettings) {
	if p == nil {
		return
	}
	c.objectName(at+".service_account", p.ServiceAccount)
	c.atMost(at+".pull_secrets", len(p.PullSecrets), maxPullSecrets)
	secrets := c.uniqueness("secret")
	for i, name := range p.PullSecrets {
		at := index(at+".pull_secrets", i)
		if name == "" {
			c.add(at, "must not be empty")
		}
		c.objectName(at, name)
		secrets.see(at, name)
	}
	c.atMost(at+".node_selector", len(p.NodeSelector), maxNodeSelector)
	for _, key := range sortedKeys(p.NodeSelector) {
		at := at + ".node_selector" + keyStep(key)
		c.labelKey(at, key)
		c.labelValue(at, p.NodeSelector[key])
	}
	c.podTolerations(at+".tolerations", p.Tolerations)
	c.request(at+".cpu_request", p.CPURequest, "500m or 2")
	c.request(at+".memory_request", p.MemoryRequest, "256Mi or 1Gi")
	c.objectName(at+".priority_class", p.PriorityClass)
}

func (c *checker) podTolerations(at string, all []PodToleration) {
	c.atMost(at, len(all), maxTolerations)
	for i, t := range all {
		at := index(at, i)
		switch {
		case t.Key != "":
			c.labelKey(at+".key", t.Key)
		case t.Operator != TolerationExists:
			c.add(at+".key", "must not be empty; only with operator Exists it is, and then means every taint")
		}
		if t.Operator == TolerationExists && t.Value != "" {
			c.add(at+".value", "must be empty, as %s.operator is Exists; remove it or write Equal", at)
		}
		c.labelValue(at+".value", t.Value)
		switch s := t.TolerationSeconds; {
		case s == nil:
		case t.Effect != EffectNoExecute:
			c.add(at+".toleration_seconds", "needs the effect NoExecute; remove it or write %s.effect: NoExecute", at)
		case *s > maxSeconds:
			c.add(at+".toleration_seconds", "must be at most %d; leave it out for ever", uint64(maxSeconds))
		}
	}
}

func (c *checker) labelValue(at, s string) {
	if !IsLabelValue(s) {
		c.add(at, "%q is no value of a label: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", clip(s))
	}
}

// objectName checks the name of a Kubernetes object, which may be left out.
func (c *checker) objectName(at, s string) {
	if s != "" && (len(s) > maxDeploymentKey || !dnsName.MatchString(s)) {
		c.add(at, "%q is no name of a Kubernetes object: lower-case letters, digits, '-' and '.', at most %d characters", clip(s), maxDeploymentKey)
	}
}

func (c *checker) request(at, s, example string) {
	if s == "" {
		return
	}
	if len(s) > maxQuantity {
		c.add(at, "is %d bytes long; shorten it to at most %d", len(s), maxQuantity)
		return
	}
	c.quantity(at, &s, example+", or 0 for none")
}
