package model

import (
	"fmt"
	"strings"
)

const (
	// maxPartitions bounds the shard table of a deployment, which every unit carries.
	maxPartitions = 4096
	// maxReplicas is far above any quorum that makes sense.
	maxReplicas = 1024
)

// Validate checks what the shape of the document cannot say. The error is a
// *ValidationError with every problem. Deployments that the package carries are
// not looked at: they are not part of it and are posted on their own.
func (p *OPackage) Validate() error {
	var c checker
	c.packageName("name", p.Name)
	if p.Version != nil {
		c.line("version", *p.Version)
	}
	classes := c.uniqueness("class")
	for i := range p.Classes {
		at := index("classes", i)
		classes.see(at+".key", p.Classes[i].Key)
		c.class(at, &p.Classes[i])
	}
	functions := c.uniqueness("function")
	for i := range p.Functions {
		at := index("functions", i)
		functions.see(at+".key", p.Functions[i].Key)
		c.function(at, &p.Functions[i])
	}
	c.bindingsResolve(p)
	dependencies := c.uniqueness("dependency")
	for i, name := range p.Dependencies {
		at := index("dependencies", i)
		c.packageName(at, name)
		dependencies.see(at, name)
		if name != "" && name == p.Name {
			c.add(at, "a package cannot depend on itself; remove %q", name)
		}
	}
	return c.result()
}

func (c *checker) class(at string, cls *OClass) {
	c.name(at+".key", cls.Key, maxName)
	names := c.uniqueness("binding")
	for i := range cls.FunctionBindings {
		b := &cls.FunctionBindings[i]
		at := index(at+".function_bindings", i)
		c.name(at+".name", b.Name, maxName)
		c.name(at+".function_key", b.FunctionKey, maxName)
		names.see(at+".name", b.Name)
	}
	c.pods(at+".pods", cls.Pods)
	if cls.StateSpec == nil {
		return
	}
	keys := c.uniqueness("state key")
	for i, k := range cls.StateSpec.KeySpecs {
		at := index(at+".state_spec.key_specs", i) + ".name"
		c.name(at, k.Name, maxName)
		keys.see(at, k.Name)
	}
}

func (c *checker) function(at string, f *OFunction) {
	c.name(at+".key", f.Key, maxName)
	c.provision(at+".provision_config", f.ProvisionConfig)
	c.config(at+".config", f.Config)
}

// bindingsResolve holds every binding against the functions of the package.
func (c *checker) bindingsResolve(p *OPackage) {
	known := map[string]bool{}
	var keys []string
	for i := range p.Functions {
		known[p.Functions[i].Key] = true
		keys = append(keys, p.Functions[i].Key)
	}
	for i := range p.Classes {
		for j, b := range p.Classes[i].FunctionBindings {
			if b.FunctionKey == "" || known[b.FunctionKey] {
				continue
			}
			at := index(index("classes", i)+".function_bindings", j) + ".function_key"
			c.add(at, "no function %q in this package; add it to functions or bind one of: %s", clip(b.FunctionKey), nameList(keys))
		}
	}
}

// Validate checks what the shape of the document cannot say. The error is a
// *ValidationError with every problem. Whether the package, the class and the
// functions exist is for the registry to say.
func (d *OClassDeployment) Validate() error {
	var c checker
	c.name("key", d.Key, maxDeploymentKey)
	c.packageName("package_name", d.PackageName)
	c.name("class_key", d.ClassKey, maxName)
	c.envs("target_envs", d.TargetEnvs)
	c.envs("available_envs", d.AvailableEnvs)
	c.nfr(&d.NFRRequirements)
	c.placement(d)
	c.pods("pods", d.Pods)
	c.rollout("rollout", d.Rollout)
	c.failover("failover", d.Failover)
	for _, env := range sortedKeys(d.EnvTemplates) {
		at := "env_templates" + keyStep(env)
		c.name(at, env, maxName)
		c.line(at, d.EnvTemplates[env])
	}
	functions := c.uniqueness("function")
	for i := range d.Functions {
		f := &d.Functions[i]
		at := index("functions", i)
		c.name(at+".function_key", f.FunctionKey, maxName)
		functions.see(at+".function_key", f.FunctionKey)
		if f.QoSRequirement != nil {
			c.share(at+".qos_requirement.availability", &f.QoSRequirement.Availability)
		}
		c.provision(at+".provision_config", f.ProvisionConfig)
		c.config(at+".config", f.Config)
	}
	c.odgm(d.ODGM)
	if d.Telemetry != nil {
		c.share("telemetry.sampling_rate", d.Telemetry.SamplingRate)
		c.config("telemetry.resource_attributes", d.Telemetry.ResourceAttributes)
	}
	return c.result()
}

func (c *checker) envs(at string, envs []string) {
	seen := c.uniqueness("environment")
	for i, env := range envs {
		c.name(index(at, i), env, maxName)
		seen.see(index(at, i), env)
	}
}

func (c *checker) nfr(n *NFRRequirements) {
	if n.MinThroughputRPS != nil && *n.MinThroughputRPS == 0 {
		c.add("nfr_requirements.min_throughput_rps", "must be at least 1; leave it out when there is no requirement")
	}
	c.share("nfr_requirements.availability", n.Availability)
	c.share("nfr_requirements.cpu_utilization_target", n.CPUUtilizationTarget)
}

func (c *checker) odgm(o *ODGMDataSpec) {
	if o == nil {
		return
	}
	seen := c.uniqueness("collection")
	for i, name := range o.Collections {
		c.name(index("odgm.collections", i), name, maxDeploymentKey)
		seen.see(index("odgm.collections", i), name)
	}
	c.count("odgm.partition_count", o.PartitionCount, maxPartitions)
	c.count("odgm.replica_count", o.ReplicaCount, maxReplicas)
	for _, env := range sortedKeys(o.EnvNodeIDs) {
		at := "odgm.env_node_ids" + keyStep(env)
		c.name(at, env, maxName)
		for i, id := range o.EnvNodeIDs[env] {
			if id == 0 {
				c.add(index(at, i), "a node id must not be 0; leave env_node_ids out to have ids chosen")
			}
		}
	}
}

// provision checks how a function is run. What is given must be usable; that an
// image is given at all matters only once the function is deployed, see
// MissingImage.
func (c *checker) provision(at string, p *ProvisionConfig) {
	if p == nil {
		return
	}
	c.reference(at+".container_image", p.ContainerImage)
	c.reference(at+".wasm_module_url", p.WasmModuleURL)
	if p.Port != nil && *p.Port == 0 {
		c.add(at+".port", "must be within 1..65535; leave it out for the default")
	}
	c.quantities(at, "cpu", p.CPURequest, p.CPULimit, "500m or 2")
	c.quantities(at, "memory", p.MemoryRequest, p.MemoryLimit, "256Mi or 1Gi")
	// A max_scale of 0 means unlimited.
	if p.MinScale != nil && p.MaxScale != nil && *p.MaxScale != 0 && *p.MinScale > *p.MaxScale {
		c.add(at+".min_scale", "must not be above max_scale (%d > %d); lower min_scale or raise max_scale", *p.MinScale, *p.MaxScale)
	}
}

func (c *checker) reference(at string, s *string) {
	switch {
	case s == nil:
	case strings.TrimSpace(*s) == "":
		c.add(at, "is blank; give a value or leave the field out")
	case strings.ContainsFunc(*s, isSpaceOrControl):
		c.add(at, "must not contain spaces or control characters")
	}
}

func (c *checker) quantities(at, resource string, request, limit *string, example string) {
	requested, ok := c.quantity(fmt.Sprintf("%s.%s_request", at, resource), request, example)
	limited, ok2 := c.quantity(fmt.Sprintf("%s.%s_limit", at, resource), limit, example)
	if ok && ok2 && requested.Cmp(limited) > 0 {
		c.add(fmt.Sprintf("%s.%s_request", at, resource), "must not be above %s_limit (%s > %s); lower the request or raise the limit", resource, *request, *limit)
	}
}

// config checks a map that becomes environment variables or attributes.
func (c *checker) config(at string, config map[string]string) {
	for _, key := range sortedKeys(config) {
		switch {
		case key == "":
			c.add(at, "has an empty name; name the variable")
		case strings.Contains(key, "=") || strings.ContainsFunc(key, isSpaceOrControl):
			c.add(at+keyStep(key), "a name must not contain '=', spaces or control characters")
		}
		if strings.ContainsRune(config[key], 0) {
			c.add(at+keyStep(key), "a value must not contain NUL characters")
		}
	}
}

// MissingImage reports that a function of this type has nothing to run when it
// is deployed with p. Built-in, macro and logical functions are run by the
// platform and need no code of their own.
func MissingImage(t FunctionType, p *ProvisionConfig) bool {
	if t == FunctionBuiltin || t == FunctionMacro || t == FunctionLogical {
		return false
	}
	given := func(s *string) bool { return s != nil && strings.TrimSpace(*s) != "" }
	return p == nil || (!given(p.ContainerImage) && !given(p.WasmModuleURL))
}
