package command

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/model"
)

// resource is a kind of object that can be listed.
type resource struct {
	singular, plural string
	aliases          []string
	list             func(ctx context.Context, c *client.Client) ([]any, error)
	// get fetches one by name. nil searches the list.
	get  func(ctx context.Context, c *client.Client, name string) (any, error)
	name func(item any) string
	// columns are always shown, wide only with -o wide.
	columns, wide []column
}

type column struct {
	title string
	value func(a *app, item any) string
}

// col makes a column of a resource whose items are of type T.
func col[T any](title string, value func(a *app, v T) string) column {
	return column{title, func(a *app, item any) string {
		v, ok := item.(T)
		if !ok {
			return "?"
		}
		return value(a, v)
	}}
}

// listOf adapts a list call of the client.
func listOf[T any](call func(*client.Client, context.Context) ([]T, error)) func(context.Context, *client.Client) ([]any, error) {
	return func(ctx context.Context, c *client.Client) ([]any, error) {
		list, err := call(c, ctx)
		out := make([]any, len(list))
		for i := range list {
			out[i] = list[i]
		}
		return out, err
	}
}

// oneOf adapts a call that gives one object.
func oneOf[T any](call func(*client.Client, context.Context, string) (*T, error)) func(context.Context, *client.Client, string) (any, error) {
	return func(ctx context.Context, c *client.Client, name string) (any, error) {
		v, err := call(c, ctx, name)
		if err != nil {
			return nil, err
		}
		return *v, nil
	}
}

func nameOf[T any](name func(T) string) func(any) string {
	return func(item any) string {
		v, ok := item.(T)
		if !ok {
			return ""
		}
		return name(v)
	}
}

// resources lists all kinds. It is a function because a column refers back to
// nothing but its item: there is no state to keep.
func resources() []*resource {
	return []*resource{
		packageResource(), deploymentResource(), classResource(), functionResource(),
		envResource(), runtimeResource(), deletionResource(), memberResource(),
	}
}

// findResource accepts singular, plural and aliases.
func findResource(name string) (*resource, error) {
	var plurals []string
	for _, r := range resources() {
		if name == r.singular || name == r.plural || slices.Contains(r.aliases, name) {
			return r, nil
		}
		plurals = append(plurals, r.plural)
	}
	return nil, usagef("unknown resource type %q, choose one of: %s", name, strings.Join(plurals, ", "))
}

func packageResource() *resource {
	return &resource{
		singular: "package", plural: "packages", aliases: []string{"pkg", "pkgs"},
		list: listOf((*client.Client).Packages), get: oneOf((*client.Client).Package),
		name: nameOf(func(p model.OPackage) string { return p.Name }),
		columns: []column{
			col("NAME", func(_ *app, p model.OPackage) string { return p.Name }),
			col("VERSION", func(_ *app, p model.OPackage) string { return deref(p.Version) }),
			col("CLASSES", func(_ *app, p model.OPackage) string { return strconv.Itoa(len(p.Classes)) }),
			col("FUNCTIONS", func(_ *app, p model.OPackage) string { return strconv.Itoa(len(p.Functions)) }),
			col("DEPENDENCIES", func(_ *app, p model.OPackage) string { return strings.Join(p.Dependencies, ",") }),
		},
		wide: []column{
			col("AUTHOR", func(_ *app, p model.OPackage) string { return deref(p.Metadata.Author) }),
			col("TAGS", func(_ *app, p model.OPackage) string { return strings.Join(p.Metadata.Tags, ",") }),
			col("DESCRIPTION", func(_ *app, p model.OPackage) string { return deref(p.Metadata.Description) }),
		},
	}
}

func deploymentResource() *resource {
	return &resource{
		singular: "deployment", plural: "deployments", aliases: []string{"deploy", "dep"},
		list: func(ctx context.Context, c *client.Client) ([]any, error) {
			return listOf(func(c *client.Client, ctx context.Context) ([]model.OClassDeployment, error) {
				return c.Deployments(ctx, client.DeploymentFilter{})
			})(ctx, c)
		},
		get:  oneOf((*client.Client).Deployment),
		name: nameOf(func(d model.OClassDeployment) string { return d.Key }),
		columns: []column{
			col("NAME", func(_ *app, d model.OClassDeployment) string { return d.Key }),
			col("CONDITION", func(_ *app, d model.OClassDeployment) string { return conditionText(&d) }),
			col("ENVS", func(_ *app, d model.OClassDeployment) string { return strings.Join(selectedEnvs(&d), ",") }),
			col("AVAILABILITY", func(_ *app, d model.OClassDeployment) string { return planned(&d) }),
			col("AGE", func(a *app, d model.OClassDeployment) string { return age(a.Now(), d.CreatedAt) }),
		},
		wide: []column{
			col("PACKAGE", func(_ *app, d model.OClassDeployment) string { return d.PackageName }),
			col("CLASS", func(_ *app, d model.OClassDeployment) string { return d.ClassKey }),
			col("FUNCTIONS", func(_ *app, d model.OClassDeployment) string { return strconv.Itoa(len(d.Functions)) }),
			col("UPDATED", func(a *app, d model.OClassDeployment) string { return age(a.Now(), d.UpdatedAt) }),
			col("MESSAGE", func(_ *app, d model.OClassDeployment) string {
				if d.Status == nil {
					return ""
				}
				return deref(d.Status.LastError)
			}),
		},
	}
}

// selectedEnvs are the environments that a deployment is planned for.
func selectedEnvs(d *model.OClassDeployment) []string {
	if d.Status != nil && len(d.Status.SelectedEnvs) > 0 {
		return d.Status.SelectedEnvs
	}
	return d.TargetEnvs
}

// conditionText is a deployment's condition, with the reasons of what does not work although
// the condition may be RUNNING.
func conditionText(d *model.OClassDeployment) string {
	if d.Status == nil || len(d.Status.Degraded) == 0 {
		return string(d.Condition)
	}
	reasons := nonEmpty(slices.Compact(slices.Sorted(maps.Values(d.Status.Degraded)))...)
	return degradedText(string(d.Condition), strings.Join(reasons, ","))
}

func degradedText(condition, reason string) string {
	if reason == "" {
		return condition + ",Degraded"
	}
	return condition + ",Degraded(" + reason + ")"
}

// planned is the availability that the planner expects. Servers of before tell only that of
// a majority, which is less where one environment is enough.
func planned(d *model.OClassDeployment) string {
	if d.Status == nil {
		return ""
	}
	if d.Status.Availability != nil {
		return percent(d.Status.Availability)
	}
	return percent(d.Status.AchievedQuorumAvailability)
}

func percent(share *float64) string {
	if share == nil {
		return ""
	}
	return strconv.FormatFloat(*share*100, 'g', 6, 64) + "%"
}

func classResource() *resource {
	return &resource{
		singular: "class", plural: "classes", aliases: []string{"cls"},
		list: listOf((*client.Client).Classes),
		name: nameOf(func(c model.OClass) string { return c.Key }),
		columns: []column{
			col("NAME", func(_ *app, c model.OClass) string { return c.Key }),
			col("METHODS", func(_ *app, c model.OClass) string {
				var names []string
				for _, b := range c.FunctionBindings {
					names = append(names, b.Name)
				}
				return strings.Join(names, ",")
			}),
			col("CONSISTENCY", func(_ *app, c model.OClass) string {
				if c.StateSpec == nil {
					return ""
				}
				return string(c.StateSpec.ConsistencyModel)
			}),
		},
		wide: []column{
			col("DESCRIPTION", func(_ *app, c model.OClass) string { return deref(c.Description) }),
		},
	}
}

func functionResource() *resource {
	provision := func(f model.OFunction) model.ProvisionConfig {
		if f.ProvisionConfig == nil {
			return model.ProvisionConfig{}
		}
		return *f.ProvisionConfig
	}
	return &resource{
		singular: "function", plural: "functions", aliases: []string{"fn", "func"},
		list: listOf((*client.Client).Functions),
		name: nameOf(func(f model.OFunction) string { return f.Key }),
		columns: []column{
			col("NAME", func(_ *app, f model.OFunction) string { return f.Key }),
			col("TYPE", func(_ *app, f model.OFunction) string { return string(f.FunctionType) }),
			col("IMAGE", func(_ *app, f model.OFunction) string {
				p := provision(f)
				if p.ContainerImage != nil {
					return *p.ContainerImage
				}
				return deref(p.WasmModuleURL)
			}),
			col("SCALE", func(_ *app, f model.OFunction) string { return scale(provision(f)) }),
		},
		wide: []column{
			col("CPU", func(_ *app, f model.OFunction) string {
				return span(provision(f).CPURequest, provision(f).CPULimit)
			}),
			col("MEMORY", func(_ *app, f model.OFunction) string {
				return span(provision(f).MemoryRequest, provision(f).MemoryLimit)
			}),
			col("DESCRIPTION", func(_ *app, f model.OFunction) string { return deref(f.Description) }),
		},
	}
}

// scale is min..max; an end that is not set stays open.
func scale(p model.ProvisionConfig) string {
	if p.MinScale == nil && p.MaxScale == nil {
		return ""
	}
	end := func(n *uint32) string {
		if n == nil {
			return ""
		}
		return strconv.FormatUint(uint64(*n), 10)
	}
	return end(p.MinScale) + ".." + end(p.MaxScale)
}

// span is request..limit of a quantity.
func span(request, limit *string) string {
	if request == nil && limit == nil {
		return ""
	}
	return deref(request) + ".." + deref(limit)
}

func envResource() *resource {
	return &resource{
		singular: "env", plural: "envs", aliases: []string{"environment", "environments", "cluster", "clusters"},
		list: listOf((*client.Client).Envs),
		name: nameOf(func(e client.Env) string { return e.Name }),
		columns: []column{
			col("NAME", func(_ *app, e client.Env) string { return e.Name }),
			col("STATUS", func(_ *app, e client.Env) string {
				status := stateOf(e.Health)
				if e.Policy != nil && e.Policy.Cordoned {
					status += ",Cordoned"
				}
				if e.Policy != nil && e.Policy.Draining {
					status += ",Draining"
				}
				return status
			}),
			col("SINCE", func(a *app, e client.Env) string { return age(a.Now(), sinceOf(e.Health)) }),
			col("NODES", func(_ *app, e client.Env) string { return nodes(e.Health) }),
			col("AVAILABILITY", func(_ *app, e client.Env) string { return percent(e.Health.Availability) }),
			col("CRM", func(_ *app, e client.Env) string { return deref(e.Health.CRMVersion) }),
			col("LAST SEEN", func(a *app, e client.Env) string { return age(a.Now(), e.Health.LastSeen) }),
		},
		wide: []column{
			col("KUBERNETES", func(_ *app, e client.Env) string { return e.KubernetesVersion }),
			col("REGION", func(_ *app, e client.Env) string { return e.Region }),
			col("ZONE", func(_ *app, e client.Env) string { return e.Zone }),
			col("SOURCE", func(_ *app, e client.Env) string { return e.Source }),
			col("ADDRESS", func(_ *app, e client.Env) string { return e.Address }),
			col("THROUGH", func(_ *app, e client.Env) string { return through(e) }),
			col("DRAIN", func(_ *app, e client.Env) string { return drainText(e.Drain) }),
			col("MESSAGE", func(_ *app, e client.Env) string { return e.Health.Message }),
		},
	}
}

// stateOf is the exact state of an environment, or the coarser status of a server that does
// not tell it.
func stateOf(h client.EnvHealth) string { return cmp.Or(h.State, h.Status) }

// sinceOf is since when an environment is not healthy: the beginning of its silence if it is
// away.
func sinceOf(h client.EnvHealth) *time.Time {
	if h.DisconnectedSince != nil {
		return h.DisconnectedSince
	}
	return h.Since
}

// through are the nodes that an environment's manager is connected to, the one in use
// first.
func through(e client.Env) string {
	var out []string
	for _, c := range e.Agents {
		if !slices.Contains(out, c.Node) {
			out = append(out, c.Node)
		}
	}
	return strings.Join(out, ",")
}

// nodes is ready/all.
func nodes(h client.EnvHealth) string {
	if h.NodeCount == nil || h.ReadyNodes == nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", *h.ReadyNodes, *h.NodeCount)
}

func runtimeResource() *resource {
	status := func(r client.ClassRuntime) client.RuntimeStatus {
		if r.Status == nil {
			return client.RuntimeStatus{Condition: "Unknown"}
		}
		return *r.Status
	}
	return &resource{
		singular: "runtime", plural: "runtimes", aliases: []string{"class-runtime", "class-runtimes", "cr", "rts"},
		list: listOf(func(c *client.Client, ctx context.Context) ([]client.ClassRuntime, error) {
			return c.ClassRuntimes(ctx, client.RuntimeFilter{})
		}),
		get:  oneOf((*client.Client).ClassRuntime),
		name: nameOf(func(r client.ClassRuntime) string { return r.ID }),
		columns: []column{
			col("NAME", func(_ *app, r client.ClassRuntime) string { return r.ID }),
			col("ENV", func(_ *app, r client.ClassRuntime) string { return envOf(r) }),
			col("CLASS", func(_ *app, r client.ClassRuntime) string { return className(r) }),
			col("CONDITION", func(_ *app, r client.ClassRuntime) string {
				for _, c := range r.Conditions {
					if c.Type == "Degraded" && c.Status == "True" {
						return degradedText(status(r).Condition, c.Reason)
					}
				}
				return status(r).Condition
			}),
			col("FUNCTIONS", func(_ *app, r client.ClassRuntime) string { return readiness(&r) }),
			col("AGE", func(a *app, r client.ClassRuntime) string { return age(a.Now(), parseTime(r.CreatedAt)) }),
		},
		wide: []column{
			col("PHASE", func(_ *app, r client.ClassRuntime) string { return status(r).Phase }),
			col("UPDATED", func(a *app, r client.ClassRuntime) string { return age(a.Now(), parseTime(r.UpdatedAt)) }),
			col("MESSAGE", func(_ *app, r client.ClassRuntime) string { return deref(status(r).Message) }),
		},
	}
}

func envOf(r client.ClassRuntime) string {
	if r.ClusterName != nil {
		return *r.ClusterName
	}
	return r.TargetEnvironment
}

// className is <package>.<class>; some clusters already send it in one field.
func className(r client.ClassRuntime) string {
	if r.PackageName == "" || strings.HasPrefix(r.ClassKey, r.PackageName+".") {
		return r.ClassKey
	}
	return r.PackageName + "." + r.ClassKey
}

// readiness is ready/all functions of a runtime.
func readiness(r *client.ClassRuntime) string {
	if r == nil || r.Status == nil || len(r.Status.Functions) == 0 {
		return ""
	}
	ready := 0
	for _, f := range r.Status.Functions {
		if f.Ready != nil && *f.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(r.Status.Functions))
}

func parseTime(s string) *time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil
	}
	return &t
}

func deletionResource() *resource {
	return &resource{
		singular: "deletion", plural: "deletions", aliases: []string{"del"},
		list: listOf((*client.Client).Deletions),
		name: nameOf(func(d client.Deletion) string { return d.Key }),
		columns: []column{
			col("NAME", func(_ *app, d client.Deletion) string { return d.Key }),
			col("CONFIRMED", func(_ *app, d client.Deletion) string { return fmt.Sprintf("%d/%d", len(d.ConfirmedEnvs), len(d.Envs)) }),
			col("WAITING FOR", func(_ *app, d client.Deletion) string { return strings.Join(pendingNames(d), ",") }),
			col("AGE", func(a *app, d client.Deletion) string { return age(a.Now(), d.DeletedAt) }),
		},
		wide: []column{
			col("UID", func(_ *app, d client.Deletion) string { return d.DeploymentUID }),
			col("ORPHANED", func(_ *app, d client.Deletion) string { return strings.Join(d.OrphanedEnvs, ",") }),
			col("REASON", func(_ *app, d client.Deletion) string { return pendingReasons(d) }),
		},
	}
}

func pendingNames(d client.Deletion) []string {
	var out []string
	for _, p := range d.PendingEnvs {
		out = append(out, p.Env)
	}
	return out
}

func pendingReasons(d client.Deletion) string {
	var out []string
	for _, p := range d.PendingEnvs {
		text := p.Env + ": " + p.Reason
		if p.UnreachableSince != nil {
			text += " (unreachable since " + p.UnreachableSince.UTC().Format(time.RFC3339) + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func memberResource() *resource {
	return &resource{
		singular: "member", plural: "members",
		list: listOf((*client.Client).Members),
		name: nameOf(func(m client.Member) string { return m.ServerID }),
		columns: []column{
			col("NAME", func(_ *app, m client.Member) string { return m.ServerID }),
			col("ROLE", func(_ *app, m client.Member) string { return role(m) }),
			col("HTTP", func(_ *app, m client.Member) string { return m.HTTPAddress }),
			col("VERSION", func(_ *app, m client.Member) string { return m.Version }),
		},
		wide: []column{
			col("GRPC", func(_ *app, m client.Member) string { return m.GRPCAddress }),
			col("RAFT", func(_ *app, m client.Member) string { return m.RaftAddress }),
		},
	}
}

func role(m client.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "follower"
	default:
		return "non-voter"
	}
}
