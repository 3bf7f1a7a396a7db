package template_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

func TestPodOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := template.PodOptions{
		ServiceAccount: "functions", PullSecrets: []string{"registry.example"}, NodeSelector: map[string]string{"example.com/pool": "a"},
		Security: template.SecurityBaseline, CPURequest: "0", MemoryRequest: "64Mi", PriorityClass: "high", PullPolicy: "Always",
		Tolerations:   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		NetworkPolicy: template.NetworkNamespace, NetworkFrom: []string{"gateways", "10.1.0.0/16", "fd00::/8"}, Locked: []string{"service_account"},
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, options := range map[string]template.PodOptions{
		`pod service account "A B"`:                                {ServiceAccount: "A B"},
		`pod pull secrets "/"`:                                     {PullSecrets: []string{"ok", "/"}},
		`pod pull secrets "a": is named twice`:                     {PullSecrets: []string{"a", "a"}},
		`pod node selector "a b"`:                                  {NodeSelector: map[string]string{"a b": "x"}},
		`pod node selector pool "x y"`:                             {NodeSelector: map[string]string{"pool": "x y"}},
		`pod security "strict": want none, baseline or restricted`: {Security: "strict"},
		`pod cpu request "much": must be a Kubernetes quantity`:    {CPURequest: "much"},
		`pod memory request "-1": must not be negative`:            {MemoryRequest: "-1"},
		`pod priority class "High"`:                                {PriorityClass: "High"},
		`pod image pull policy "never"`:                            {PullPolicy: "never"},
		`pod network policy "off": want none or namespace`:         {NetworkPolicy: "off"},
		`pod network from "A"`:                                     {NetworkFrom: []string{"A"}},
		`pod network from "10.1.0.0/33": want a namespace, or`:     {NetworkFrom: []string{"10.1.0.0/33"}},
		`pod network from "10.1.2.3/16": an address range ends`:    {NetworkFrom: []string{"10.1.2.3/16"}},
		`pod tolerations [0] "": a toleration without a key`:       {Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpEqual}}},
		`pod locked "security_context": want one of service_acc`:   {Locked: []string{"security_context"}},
	} {
		if err := options.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestParseToleration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]corev1.Toleration{
		"gpu":                {Key: "gpu", Operator: corev1.TolerationOpExists},
		"gpu:NoSchedule":     {Key: "gpu", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		"a.io/pool=x":        {Key: "a.io/pool", Operator: corev1.TolerationOpEqual, Value: "x"},
		"pool=x:NoExecute":   {Key: "pool", Operator: corev1.TolerationOpEqual, Value: "x", Effect: corev1.TaintEffectNoExecute},
		"pool=:NoExecute":    {Key: "pool", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoExecute},
		"*":                  {Operator: corev1.TolerationOpExists},
		"*:PreferNoSchedule": {Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectPreferNoSchedule},
	} {
		got, err := template.ParseToleration(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"", "=x", "*=x", ":NoSchedule", "gpu:Never", "a b", "a=b c", "a:NoSchedule:NoExecute"} {
		if got, err := template.ParseToleration(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestPodsOfAClassAreChecked(t *testing.T) {
	t.Parallel()
	for want, class := range map[string]v1alpha1.PodSettings{
		"spec.pods.service_account":     {ServiceAccount: "A"},
		"spec.pods.pull_secrets":        {PullSecrets: []string{"/"}},
		"spec.pods.node_selector[pool]": {NodeSelector: map[string]string{"pool": "x y"}},
		"spec.pods.node_selector":       {NodeSelector: map[string]string{"a b": "x"}},
		"spec.pods.tolerations[1]":      {Tolerations: []v1alpha1.Toleration{{Key: "a"}, {Key: "a", Operator: "Exists", Value: "b"}}},
		"spec.pods.security":            {Security: "strict"},
		"spec.pods.cpu_request":         {CPURequest: "-1"},
		"spec.pods.memory_request":      {MemoryRequest: "1 GB"},
		"spec.pods.network_policy":      {NetworkPolicy: "off"},
		"spec.pods.priority_class":      {PriorityClass: "A"},
		"spec.pods.image_pull_policy":   {ImagePullPolicy: "never"},
	} {
		spec := record()
		spec.Pods = &class
		_, err := registry(t).Render(input(spec))
		var invalid *template.InvalidSpecError
		if !errors.As(err, &invalid) || len(invalid.Fields) != 1 || invalid.Fields[0].Field != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A cluster can keep members for itself; the class that sets one learns which.
func TestLockedMembersAreRefused(t *testing.T) {
	t.Parallel()
	class := settled(echo("R.a"))
	for _, member := range class.Pods.Members() {
		_, err := registry(t).Render(input(class, func(in *template.Input) { in.Environment.Pods.Locked = []string{member} }))
		if err == nil || !strings.HasPrefix(err.Error(), "spec.pods."+member+": Forbidden") {
			t.Errorf("%s: %v", member, err)
		}
	}
	locked := class.Pods.Members()
	if err := (&template.PodOptions{Locked: locked}).Validate(); err != nil {
		t.Errorf("the members of the type and those that can be locked differ: %v", err)
	}
	all, err := json.Marshal(class.Pods)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(all, &members); err != nil {
		t.Fatal(err)
	}
	slices.Sort(locked)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(members)), locked); diff != "" {
		t.Errorf("members of spec.pods: %s", diff)
	}
	if _, err := registry(t).Render(input(record(), func(in *template.Input) { in.Environment.Pods.Locked = locked })); err != nil {
		t.Errorf("a class that says nothing: %v", err)
	}
}

// The code of a class must not come by the rights of the manager.
func TestTheManagersAccountIsNotForClasses(t *testing.T) {
	t.Parallel()
	class := settled(echo("R.a"))
	class.Pods.ServiceAccount = "oaas-crm"
	reserved := func(in *template.Input) { in.Environment.Pods.Reserved = "oaas-crm" }
	if _, err := registry(t).Render(input(class, reserved)); err == nil || !strings.HasPrefix(err.Error(), "spec.pods.service_account: Forbidden") {
		t.Error(err)
	}
	class.Pods.ServiceAccount = "other"
	if _, err := registry(t).Render(input(class, reserved)); err != nil {
		t.Error(err)
	}
}

// podsIn renders a class and returns the pod of its first function.
func podsIn(t *testing.T, in template.Input) corev1.PodSpec {
	t.Helper()
	rendered, err := registry(t).Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range rendered.Objects {
		if o.GVK.Kind != "Deployment" || o.Component != template.ComponentFunction {
			continue
		}
		raw, err := json.Marshal(o.Configuration)
		if err != nil {
			t.Fatal(err)
		}
		d := appsv1.Deployment{}
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		return d.Spec.Template.Spec
	}
	t.Fatal("no function")
	return corev1.PodSpec{}
}

// The function wins over its class, the class over the cluster, the cluster over the
// template.
func TestPrecedenceOfRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile, function, limit, class, cluster string
		want                                     string
	}{
		"template":          {profile: "full", want: "50m"},
		"edge":              {profile: "edge", want: "50m"},
		"dev is lean":       {profile: "dev"},
		"cluster":           {profile: "full", cluster: "1", want: "1"},
		"cluster in dev":    {profile: "dev", cluster: "1", want: "1"},
		"cluster has none":  {profile: "full", cluster: "0"},
		"class":             {profile: "full", cluster: "1", class: "2", want: "2"},
		"class wants none":  {profile: "full", cluster: "1", class: "0"},
		"class in dev":      {profile: "dev", class: "2", want: "2"},
		"function":          {profile: "full", cluster: "1", class: "2", function: "3", want: "3"},
		"limit of function": {profile: "full", cluster: "1", class: "2", limit: "10m"},
	} {
		spec := v1alpha1.ClassRuntimeSpec{Addons: []string{}, Functions: []v1alpha1.FunctionSpec{echo("R.a")}}
		spec.Functions[0].ProvisionConfig.CPURequest, spec.Functions[0].ProvisionConfig.CPULimit = c.function, c.limit
		if c.class != "" {
			spec.Pods = &v1alpha1.PodSettings{CPURequest: c.class}
		}
		pod := podsIn(t, input(spec, func(in *template.Input) {
			in.Environment.Profile, in.Environment.Pods.CPURequest = c.profile, c.cluster
		}))
		got := ""
		if q, ok := pod.Containers[0].Resources.Requests[corev1.ResourceCPU]; ok {
			got = q.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A pod has a token of its service account only when somebody named the account.
func TestTokensAreForNamedAccounts(t *testing.T) {
	t.Parallel()
	yes := true
	for name, c := range map[string]struct {
		profile, cluster, class string
		want                    *bool
	}{
		"nobody":  {profile: "full", want: ptr(false)},
		"dev":     {profile: "dev"},
		"cluster": {profile: "full", cluster: "functions"},
		"class":   {profile: "full", class: "default"},
	} {
		spec := v1alpha1.ClassRuntimeSpec{Addons: []string{}, Functions: []v1alpha1.FunctionSpec{echo("R.a")}, Pods: &v1alpha1.PodSettings{ServiceAccount: c.class, Spread: &yes}}
		pod := podsIn(t, input(spec, func(in *template.Input) {
			in.Environment.Profile, in.Environment.Pods.ServiceAccount = c.profile, c.cluster
		}))
		if diff := cmp.Diff(c.want, pod.AutomountServiceAccountToken); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What one class adds to the lists of the cluster is not seen by the next one.
func TestClassesShareNothing(t *testing.T) {
	t.Parallel()
	r := registry(t)
	environment := template.Environment{Profile: "full", Pods: template.PodOptions{
		PullSecrets: make([]string, 1, 10), NodeSelector: map[string]string{"pool": "a"}, Tolerations: make([]corev1.Toleration, 1, 10),
	}}
	environment.Pods.PullSecrets[0] = "registry"
	environment.Pods.Tolerations[0] = corev1.Toleration{Key: "a", Operator: corev1.TolerationOpExists}
	plain := v1alpha1.ClassRuntimeSpec{Functions: []v1alpha1.FunctionSpec{echo("R.a")}}
	render := func(spec v1alpha1.ClassRuntimeSpec) *template.Rendered {
		out, err := r.Render(input(spec, func(in *template.Input) { in.Environment = environment }))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := render(plain)
	render(settled(echo("R.a")))
	if after := render(plain); after.Hash != before.Hash {
		t.Error("a class changed what others get")
	}
}
