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

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
	"oaas.io/control-plane/model"
)

func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe package|deployment|env|deletion NAME",
		Short: "Show everything about one object, and why it waits",
		Example: `  pmctl describe deployment shop.Cart
  pmctl describe env oaas-1
  pmctl describe deletion shop.Cart`,
		Args:              arguments("TYPE", "[NAME]"),
		ValidArgsFunction: a.completeOf([]string{"deployment", "package", "env", "deletion"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, names, err := typeAndNames(args)
			if err != nil {
				return err
			}
			if len(names) != 1 {
				return usagef("name one %s", kind.singular)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var text *description
			switch kind.singular {
			case "package":
				text, err = a.describePackage(cmd.Context(), c, names[0])
			case "deployment":
				text, err = a.describeDeployment(cmd.Context(), c, names[0])
			case "env":
				text, err = a.describeEnv(cmd.Context(), c, names[0])
			case "deletion":
				text, err = a.describeDeletion(cmd.Context(), c, names[0])
			default:
				return usagef("%s cannot be described, only packages, deployments, envs and deletions; try get -o yaml", kind.plural)
			}
			if err != nil {
				return err
			}
			a.printf("%s", text)
			return nil
		},
	}
}

// description is a text of aligned fields and of sections with tables.
type description struct {
	fields table
	rest   strings.Builder
}

// field adds a line unless the value is empty.
func (d *description) field(name, value string) {
	if value != "" {
		d.fields.add(name+":", value)
	}
}

func (d *description) section(title string, t table) {
	fmt.Fprintf(&d.rest, "\n%s:\n", title)
	if len(t.rows) == 0 {
		d.rest.WriteString("  " + none + "\n")
		return
	}
	t.indent = "  "
	for _, row := range t.rows {
		for i := range row {
			row[i] = orDash(row[i])
		}
	}
	d.rest.WriteString(strings.Join(t.lines(), "\n") + "\n")
}

func (d *description) String() string {
	return strings.Join(d.fields.lines(), "\n") + "\n" + d.rest.String()
}

func (a *app) describePackage(ctx context.Context, c *client.Client, name string) (*description, error) {
	p, err := c.Package(ctx, name)
	if err != nil {
		return nil, err
	}
	deps, err := c.Deployments(ctx, client.DeploymentFilter{PackageName: name})
	if err != nil {
		return nil, err
	}
	var d description
	d.field("Name", p.Name)
	d.field("Version", deref(p.Version))
	d.field("Description", deref(p.Metadata.Description))
	d.field("Author", deref(p.Metadata.Author))
	d.field("Tags", strings.Join(p.Metadata.Tags, ", "))
	d.field("Dependencies", strings.Join(p.Dependencies, ", "))
	classes := table{header: []string{"CLASS", "METHOD", "FUNCTION", "ACCESS", "STATELESS"}}
	for _, cls := range p.Classes {
		for _, b := range cls.FunctionBindings {
			classes.add(cls.Key, b.Name, b.FunctionKey, string(b.AccessModifier), fmt.Sprint(b.Stateless))
		}
		if len(cls.FunctionBindings) == 0 {
			classes.add(cls.Key, "", "", "", "")
		}
	}
	d.section("Classes", classes)
	d.section("Functions", a.tableOf(functionResource(), p.Functions))
	d.section("Deployments", a.tableOf(deploymentResource(), deps))
	return &d, nil
}

// tableOf shows objects with the columns that get has for them.
func (a *app) tableOf(kind *resource, items any) table {
	var t table
	for _, c := range kind.columns {
		t.header = append(t.header, c.title)
	}
	add := func(item any) {
		row := make([]string, len(kind.columns))
		for i, c := range kind.columns {
			row[i] = c.value(a, item)
		}
		t.add(row...)
	}
	switch list := items.(type) {
	case []model.OFunction:
		for _, item := range list {
			add(item)
		}
	case []model.OClassDeployment:
		for _, item := range list {
			add(item)
		}
	}
	return t
}

func (a *app) describeDeployment(ctx context.Context, c *client.Client, key string) (*description, error) {
	dep, err := c.Deployment(ctx, key)
	if err != nil {
		return nil, err
	}
	p, err := look(ctx, c, key)
	if err != nil {
		return nil, err
	}
	var d description
	d.field("Name", dep.Key)
	d.field("Package", dep.PackageName)
	d.field("Class", dep.ClassKey)
	d.field("Condition", conditionText(dep))
	d.field("Created", a.stamp(dep.CreatedAt))
	d.field("Updated", a.stamp(dep.UpdatedAt))
	d.field("Environments", strings.Join(selectedEnvs(dep), ", "))
	d.field("Availability", planned(dep))
	d.field("Requirements", requirements(dep.NFRRequirements))
	d.field("Templates", pairs(dep.EnvTemplates))
	d.field("Data grid", dataGrid(dep.ODGM))
	if dep.Status != nil {
		d.field("Message", deref(dep.Status.LastError))
	}
	if p.rollout != nil {
		d.field("Rollout", strings.TrimPrefix(p.rolloutText(), "Rollout to "))
	}
	moving, err := a.describeMove(ctx, c, key, &d)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(p.units), p.removed...)
	d.section("Units", a.unitTable(all))
	if len(moving.rows) > 0 {
		d.section("Leaving", moving)
	}
	if t := functionTable(all); len(t.rows) > 0 {
		d.section("Functions", t)
	}
	if t := a.waitingTable(all); len(t.rows) > 0 {
		d.section("Waiting", t)
	}
	return &d, nil
}

func (a *app) unitTable(units []client.Unit) table {
	t := table{header: []string{"CLUSTER", "UNIT", "PHASE", "FUNCTIONS", "GENERATION", "STORED", "AGE", "DETAIL"}}
	for _, u := range units {
		stored, since := "no", ""
		if u.Acknowledged {
			stored = "yes"
		}
		if u.Runtime != nil {
			since = age(a.Now(), parseTime(u.Runtime.CreatedAt))
		}
		text := ""
		if u.Acknowledged {
			text = detail(u) // reasons to wait have their own table
		}
		if u.Unknown != nil {
			text = "for " + age(a.Now(), u.Unknown.Since) + ", " + text
		}
		t.add(u.Env, u.ID, u.Phase, readiness(u.Runtime), fmt.Sprint(u.Generation), stored, since, text)
	}
	return t
}

func functionTable(units []client.Unit) table {
	t := table{header: []string{"CLUSTER", "FUNCTION", "STATE", "TEMPLATE", "URL", "DETAIL"}}
	for _, u := range units {
		for _, f := range functions(u) {
			url := f.PredictedURL
			if f.ObservedURL != nil {
				url = *f.ObservedURL
			}
			t.add(u.Env, f.FunctionKey, functionState(f), f.Template, url, functionDetail(f))
		}
	}
	return t
}

func (a *app) waitingTable(units []client.Unit) table {
	t := table{header: []string{"CLUSTER", "REASON", "SINCE", "RETRIED", "MESSAGE"}}
	for _, u := range units {
		if u.Waiting == nil || u.Acknowledged {
			continue
		}
		retried := "yes"
		if u.Waiting.Permanent {
			retried = "no, needs a change"
		}
		t.add(u.Env, u.Waiting.Code, age(a.Now(), u.Waiting.Since), retried, u.Waiting.Message)
	}
	return t
}

func (a *app) describeEnv(ctx context.Context, c *client.Client, name string) (*description, error) {
	envs, err := envResource().fetch(ctx, c, []string{name})
	if err != nil {
		return nil, err
	}
	e, ok := envs[0].(client.Env)
	if !ok {
		return nil, envResource().missing(name)
	}
	deps, err := c.Deployments(ctx, client.DeploymentFilter{TargetEnv: name})
	if err != nil {
		return nil, err
	}
	var d description
	d.field("Name", e.Name)
	d.field("Status", stateOf(e.Health))
	if e.Health.Status != "Healthy" {
		d.field("Since", a.stamp(e.Health.Since))
		if away := e.Health.DisconnectedSince; away != nil {
			d.field("Away since", a.stamp(away))
		}
		d.field("Message", e.Health.Message)
	}
	d.field("Last seen", a.stamp(e.Health.LastSeen))
	d.field("Nodes ready", nodes(e.Health))
	d.field("Availability", percent(e.Health.Availability))
	if r := e.Resources; r != nil {
		d.field("CPU", roomOf(r.FreeCPUMillis, r.AllocatableCPUMillis, 1000, ""))
		d.field("Memory", roomOf(r.FreeMemoryBytes, r.AllocatableMemoryBytes, 1<<30, " GiB"))
	}
	d.field("Region", e.Region)
	d.field("Zone", e.Zone)
	d.field("Labels", pairs(e.Labels))
	d.field("Capabilities", strings.Join(e.Capabilities, ", "))
	d.field("Node zones", strings.Join(e.NodeZones, ", "))
	d.field("Kubernetes", e.KubernetesVersion)
	d.field("Knative", e.KnativeVersion)
	d.field("Runtime manager", strings.Join(nonEmpty(deref(e.Health.CRMVersion), e.Address), " at "))
	d.field("Namespace", e.Namespace)
	d.field("Source", e.Source)
	d.field("Planned with", plannedWith(e.Availability))
	if p := e.Policy; p != nil && p.Cordoned {
		d.field("Cordoned", cmp.Or(p.CordonReason, "yes"))
	}
	if e.Drain != nil {
		d.field("Draining", strings.Join(nonEmpty(e.Drain.Reason, drainText(e.Drain)), ": "))
		if len(e.Drain.Held) > 0 {
			d.section("Held", a.heldTable(e.Drain.Held))
		}
	}
	if len(e.Agents) > 0 {
		t := table{header: []string{"NODE", "FROM", "VERSION", "AGE"}}
		for _, c := range e.Agents {
			t.add(c.Node, c.RemoteAddress, c.Version, age(a.Now(), c.Since))
		}
		d.section("Agents", t)
	}
	if len(e.Health.Observers) > 0 {
		t := table{header: []string{"NODE", "REACHES IT", "API SERVER", "ASKED", "DETAIL"}}
		for _, o := range e.Health.Observers {
			t.add(cmp.Or(o.Node, o.ServerID), yesNo(o.Reachable), yesNo(o.Ready), age(a.Now(), &o.Time), o.Message)
		}
		d.section("Other nodes", t)
	}
	if len(e.Strays) > 0 {
		t := table{header: []string{"UNIT", "DEPLOYMENT", "AGE", "EPOCH", "ORPHANED"}}
		for _, s := range e.Strays {
			t.add(s.UnitID, s.DeploymentKey, age(a.Now(), s.FirstSeen), strconv.FormatUint(s.Epoch, 10), strconv.FormatBool(s.Orphaned))
		}
		d.section("Strays (runtimes that nothing wants)", t)
	}
	d.section("Deployments", a.tableOf(deploymentResource(), deps))
	return &d, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) describeDeletion(ctx context.Context, c *client.Client, name string) (*description, error) {
	del, err := findDeletion(ctx, c, name)
	if err != nil {
		return nil, err
	}
	var d description
	d.field("Name", del.Key)
	d.field("UID", del.DeploymentUID)
	d.field("Package", del.PackageName)
	d.field("Class", del.ClassKey)
	d.field("Deleted", a.stamp(del.DeletedAt))
	d.field("Progress", del.Progress)
	t := table{header: []string{"CLUSTER", "STATE", "CODE", "SINCE", "REASON"}}
	for _, env := range del.ConfirmedEnvs {
		t.add(env, "confirmed", "", "", "")
	}
	for _, env := range del.OrphanedEnvs {
		t.add(env, "orphaned", "", "", "")
	}
	for _, p := range del.PendingEnvs {
		state, since := "waiting", p.Since
		if p.UnreachableSince != nil {
			state, since = "unreachable", p.UnreachableSince
		}
		t.add(p.Env, state, p.Code, a.stamp(since), p.Reason)
	}
	d.section("Clusters", t)
	return &d, nil
}

// roomOf says how much of a resource is free, in a unit of so many.
func roomOf(free, all *uint64, unit float64, name string) string {
	if all == nil {
		return ""
	}
	total := strconv.FormatFloat(float64(*all)/unit, 'f', 1, 64) + name
	if free == nil {
		return total
	}
	return strconv.FormatFloat(float64(*free)/unit, 'f', 1, 64) + " of " + total + " free"
}

// plannedWith is the availability that plans calculate with, and what else is known.
func plannedWith(v *client.Availability) string {
	if v == nil {
		return ""
	}
	var out []string
	if v.Used != nil {
		out = append(out, percent(v.Used)+" "+v.Source)
	}
	if m := v.Measured; m != nil && v.Source != "measured" {
		out = append(out, fmt.Sprintf("%s measured in %.1f days", percent(&m.Lower), m.Days))
	}
	return strings.Join(out, ", ")
}

// stamp is a time with its age.
func (a *app) stamp(t *time.Time) string {
	if t == nil || t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), age(a.Now(), t))
}

func requirements(n model.NFRRequirements) string {
	var out []string
	if n.Availability != nil {
		out = append(out, "availability ≥ "+percent(n.Availability))
	}
	if n.MinThroughputRPS != nil {
		out = append(out, fmt.Sprintf("throughput ≥ %d/s", *n.MinThroughputRPS))
	}
	if n.CPUUtilizationTarget != nil {
		out = append(out, "CPU utilisation "+percent(n.CPUUtilizationTarget))
	}
	return strings.Join(out, ", ")
}

func dataGrid(o *model.ODGMDataSpec) string {
	if o == nil {
		return ""
	}
	var out []string
	if len(o.Collections) > 0 {
		out = append(out, "collections "+strings.Join(o.Collections, ","))
	}
	for _, n := range []struct {
		name  string
		value *uint32
	}{{"partitions", o.PartitionCount}, {"replicas", o.ReplicaCount}} {
		if n.value != nil {
			out = append(out, fmt.Sprintf("%d %s", *n.value, n.name))
		}
	}
	return strings.Join(out, ", ")
}

// pairs is a map as key=value, sorted.
func pairs(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, ", ")
}
