package model

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The limits of a placement. Every plan of the deployment looks at all of it, and the
// replicated log carries it.
const (
	maxPlacementNames = 100
	maxSpreadRules    = 10
	maxWindows        = 20
	maxDivided        = 100
	// maxPods bounds the pods that are divided: the work grows with them.
	maxPods = 100_000
	// maxSelector bounds the text of an expression or a label selector, in bytes.
	maxSelector = 4096
	// maxDomains is above what the planner ever chooses for one deployment.
	maxDomains = 50
	// maxWindow is the longest a maintenance window may be open.
	maxWindow = 7 * 24 * time.Hour
)

// The forms of the key and of the value of a Kubernetes label or taint: a name of up to
// 63 characters, before which a key may have a DNS name.
var (
	labelKey   = regexp.MustCompile(`^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

// IsLabelKey and IsLabelValue tell whether Kubernetes takes a text for one.
func IsLabelKey(s string) bool { return labelKey.MatchString(s) }

// IsLabelValue is IsLabelKey for values, which may be empty.
func IsLabelValue(s string) bool { return labelValue.MatchString(s) }

// timeOfDay is HH:MM.
var timeOfDay = regexp.MustCompile(`^(?:[01][0-9]|2[0-3]):[0-5][0-9]$`)

// placement checks a placement by itself and against the lists of environments
// around it. Whether selector, expression and time zones can be read is for the
// registry to say, which has what reads them.
func (c *checker) placement(d *OClassDeployment) {
	p := d.Placement
	if p == nil {
		return
	}
	c.atMost("placement.allow", len(p.Allow), maxPlacementNames)
	c.envs("placement.allow", p.Allow)
	c.atMost("placement.deny", len(p.Deny), maxPlacementNames)
	c.envs("placement.deny", p.Deny)
	c.environmentLists(d)
	c.matchLabels("placement.match_labels", p.MatchLabels)
	c.selectorText("placement.selector", p.Selector)
	c.selectorText("placement.expression", p.Expression)
	c.tolerations("placement.tolerations", p.Tolerations)
	c.requirements("placement.requires", p.Requires)
	c.spread(d)
	c.divide("placement.divide", p.Divide)
	c.antiAffinity("placement.anti_affinity", p.AntiAffinity, d.Key)
	// Written so that NaN fails.
	if p.MaxCost != nil && !(*p.MaxCost >= 0 && !math.IsInf(*p.MaxCost, 0)) {
		c.add("placement.max_cost", "must be a finite number of at least 0, got %v; leave it out for no limit", *p.MaxCost)
	}
	if p.MaxLatencyMS != nil && !(*p.MaxLatencyMS >= 0 && !math.IsInf(*p.MaxLatencyMS, 0)) {
		c.add("placement.max_latency_ms", "must be a finite number of at least 0, got %v; leave it out for no limit", *p.MaxLatencyMS)
	}
	c.windows("placement.windows", p.Windows)
}

func (c *checker) atMost(at string, n, most int) {
	if n > most {
		c.add(at, "has %d entries; at most %d are allowed", n, most)
	}
}

// environmentLists finds lists of environments that contradict each other.
func (c *checker) environmentLists(d *OClassDeployment) {
	p := d.Placement
	for i, env := range p.Deny {
		if j := slices.Index(p.Allow, env); j >= 0 && env != "" {
			c.add(index("placement.deny", i), "environment %q is also at %s; remove one", clip(env), index("placement.allow", j))
		}
		if j := slices.Index(d.TargetEnvs, env); j >= 0 && env != "" {
			c.add(index("placement.deny", i), "environment %q is also at %s; remove one", clip(env), index("target_envs", j))
		}
	}
	for i, env := range d.TargetEnvs {
		if len(p.Allow) > 0 && env != "" && !slices.Contains(p.Allow, env) {
			c.add(index("target_envs", i), "environment %q is not in placement.allow; add it there or remove it here", clip(env))
		}
	}
	if len(d.TargetEnvs) > 0 {
		return
	}
	if left, at, limited := choice(d); limited && len(left) == 0 {
		c.add(at, "leaves no environment: none is in all of available_envs and placement.allow and not in placement.deny")
	}
}

// choice gives the environments that the lists of a deployment leave, and the list
// that decides how many they are. limited is false when any environment may come.
func choice(d *OClassDeployment) (left []string, at string, limited bool) {
	p := d.Placement
	switch {
	case len(d.TargetEnvs) > 0:
		return d.TargetEnvs, "target_envs", true
	case len(p.Allow) > 0:
		left, at = p.Allow, "placement.allow"
	case len(d.AvailableEnvs) > 0:
		left, at = d.AvailableEnvs, "available_envs"
	default:
		return nil, "", false
	}
	left = slices.DeleteFunc(slices.Clone(left), func(env string) bool {
		return slices.Contains(p.Deny, env) || len(d.AvailableEnvs) > 0 && !slices.Contains(d.AvailableEnvs, env)
	})
	return left, at, true
}

func (c *checker) labelKey(at, key string) {
	if !labelKey.MatchString(key) {
		c.add(at, "%q is not the key of a label; write for instance tier or example.com/tier", clip(key))
	}
}

func (c *checker) matchLabels(at string, labels map[string]string) {
	c.atMost(at, len(labels), maxPlacementNames)
	for _, key := range sortedKeys(labels) {
		c.labelKey(at+keyStep(key), key)
		c.line(at+keyStep(key), labels[key])
	}
}

func (c *checker) selectorText(at, s string) {
	switch {
	case len(s) > maxSelector:
		c.add(at, "is %d bytes long; shorten it to at most %d", len(s), maxSelector)
	case s != "" && strings.TrimSpace(s) == "":
		c.add(at, "is blank; give a value or leave the field out")
	}
}

func (c *checker) tolerations(at string, all []Toleration) {
	c.atMost(at, len(all), maxPlacementNames)
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
		c.line(at+".value", t.Value)
	}
}

func (c *checker) requirements(at string, r *PlacementRequirements) {
	if r == nil {
		return
	}
	c.atMost(at+".capabilities", len(r.Capabilities), maxPlacementNames)
	seen := c.uniqueness("capability")
	for i, name := range r.Capabilities {
		at := index(at+".capabilities", i)
		c.name(at, name, maxName)
		seen.see(at, name)
	}
	if r.Architecture != "" {
		c.name(at+".architecture", r.Architecture, maxName)
	}
}

// spread checks the rules by themselves, and against the number of environments that
// there can be: each domain needs at least one.
func (c *checker) spread(d *OClassDeployment) {
	const at = "placement.spread"
	rules := d.Placement.Spread
	c.atMost(at, len(rules), maxSpreadRules)
	left, list, limited := choice(d)
	seen := c.uniqueness("topology")
	for i, rule := range rules {
		at := index(at, i)
		seen.see(at+".topology", rule.Topology)
		c.topology(at+".topology", rule.Topology, TopologyRegion, TopologyZone, TopologyProvider)
		if rule.MaxPerDomain == nil && rule.MinDomains == nil {
			c.add(at, "has neither max_per_domain nor min_domains; give at least one")
		}
		c.count(at+".max_per_domain", rule.MaxPerDomain, maxDomains)
		c.count(at+".min_domains", rule.MinDomains, maxDomains)
		if least := rule.MinDomains; least != nil && limited && len(left) > 0 && int64(*least) > int64(len(left)) {
			c.add(at+".min_domains", "asks for %d domains, but %s leaves %d environments; lower it or add environments there", *least, list, len(left))
		}
	}
}

func (c *checker) divide(at string, all []FunctionPods) {
	c.atMost(at, len(all), maxDivided)
	seen := c.uniqueness("function")
	for i := range all {
		at, f := index(at, i), &all[i]
		seen.see(at+".function", f.Function)
		if f.Function == "" {
			c.add(at+".function", "is empty; give the key of a function")
		}
		if f.Pods == 0 || f.Pods > maxPods {
			c.add(at+".pods", "must be within 1..%d, got %d", maxPods, f.Pods)
		}
		if f.Survive >= maxDomains {
			c.add(at+".survive", "is %d; no deployment has more than %d environments", f.Survive, maxDomains)
		}
	}
}

// topology checks what is one of the fields or the key of a label. The fields come
// first, so a label that is called like one cannot be meant.
func (c *checker) topology(at, s string, fields ...string) {
	if slices.Contains(fields, s) {
		return
	}
	if s == TopologyCluster || !labelKey.MatchString(s) {
		c.add(at, "must be %s or the key of a label, got %q", strings.Join(fields, ", "), clip(s))
	}
}

func (c *checker) antiAffinity(at string, a *AntiAffinity, own string) {
	if a == nil {
		return
	}
	c.atMost(at+".deployments", len(a.Deployments), maxPlacementNames)
	if len(a.Deployments) == 0 {
		c.add(at+".deployments", "must not be empty; name deployments or leave anti_affinity out")
	}
	seen := c.uniqueness("deployment")
	for i, key := range a.Deployments {
		at := index(at+".deployments", i)
		c.name(at, key, maxDeploymentKey)
		seen.see(at, key)
		if key != "" && key == own {
			c.add(at, "%q is this deployment itself, see key; use placement.spread to spread it", clip(key))
		}
	}
	if a.Topology != "" {
		c.topology(at+".topology", a.Topology, TopologyCluster, TopologyRegion, TopologyZone, TopologyProvider)
	}
}

func (c *checker) windows(at string, all []MaintenanceWindow) {
	c.atMost(at, len(all), maxWindows)
	for i, w := range all {
		at := index(at, i)
		days := c.uniqueness("day")
		for j, day := range w.Days {
			days.see(index(at+".days", j), string(day))
		}
		if !timeOfDay.MatchString(w.Start) {
			c.add(at+".start", "%q is not a time of day; write for instance 02:30", clip(w.Start))
		}
		if length, err := time.ParseDuration(w.Duration); err != nil || length <= 0 || length > maxWindow {
			c.add(at+".duration", "%q is not a duration above 0 and up to 168h; write for instance 4h or 1h30m", clip(w.Duration))
		}
		if w.Zone == "" {
			c.add(at+".zone", "must not be empty; name a time zone such as Europe/Berlin or UTC")
		}
	}
}
