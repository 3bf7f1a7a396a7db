package template_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

func registry(t testing.TB, more ...template.Template) *template.Registry {
	t.Helper()
	r, err := template.NewRegistry(append(template.Builtin(), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stub is a template that needs something the cluster may lack.
type stub struct {
	name    string
	aliases []string
	score   int
	works   bool
}

func (s stub) Name() string      { return s.name }
func (s stub) Aliases() []string { return s.aliases }
func (s stub) Score(template.Environment, *v1alpha1.NfrRequirements) (int, bool) {
	return s.score, s.works
}
func (s stub) Render(template.Input) (*template.Rendered, error) {
	return &template.Rendered{Template: s.name}, nil
}

func TestSelectByScore(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		profile      string
		plain, inDC  string
		withEdgeFlag string
	}{
		{profile: "dev", plain: "dev", inDC: "dev", withEdgeFlag: "dev"},
		{profile: "DEV", plain: "dev", inDC: "dev", withEdgeFlag: "dev"},
		{profile: "edge", plain: "edge", inDC: "edge", withEdgeFlag: "edge"},
		{profile: "full", plain: "k8s_deployment", inDC: "k8s_deployment", withEdgeFlag: "edge"},
		{profile: "prod", plain: "k8s_deployment", inDC: "k8s_deployment", withEdgeFlag: "edge"},
		{profile: "Production", plain: "k8s_deployment", inDC: "k8s_deployment", withEdgeFlag: "edge"},
		{profile: "k8s_deployment", plain: "k8s_deployment", inDC: "k8s_deployment", withEdgeFlag: "edge"},
		{profile: "other", plain: "edge", inDC: "k8s_deployment", withEdgeFlag: "edge"},
		{profile: "", plain: "edge", inDC: "k8s_deployment", withEdgeFlag: "edge"},
	} {
		r := registry(t)
		spec := &v1alpha1.ClassRuntimeSpec{}
		for want, env := range map[string]template.Environment{
			"plain " + tc.plain:       {Profile: tc.profile},
			"dc " + tc.inDC:           {Profile: tc.profile, Datacenter: true},
			"edge " + tc.withEdgeFlag: {Profile: tc.profile, Edge: true},
		} {
			_, want, _ := strings.Cut(want, " ")
			if got := r.Select(spec, env, "").Template.Name(); got != want {
				t.Errorf("profile %q, %+v: %s, want %s", tc.profile, env, got, want)
			}
		}
	}
}

func TestSelectByRequirements(t *testing.T) {
	t.Parallel()
	u32 := func(v uint32) *uint32 { return &v }
	f64 := func(v float64) *float64 { return &v }
	for name, tc := range map[string]struct {
		nfr  v1alpha1.NfrRequirements
		want string
	}{
		"demanding":    {v1alpha1.NfrRequirements{MinThroughputRPS: u32(2000), MaxLatencyMS: u32(40), AvailabilityPct: f64(99.99), Consistency: "strong"}, "k8s_deployment"},
		"modest":       {v1alpha1.NfrRequirements{MinThroughputRPS: u32(400)}, "edge"},
		"strong":       {v1alpha1.NfrRequirements{Consistency: "strong"}, "k8s_deployment"},
		"Strong":       {v1alpha1.NfrRequirements{Consistency: "Strong"}, "edge"},
		"float limits": {v1alpha1.NfrRequirements{AvailabilityPct: f64(float64(float32(99.95)))}, "k8s_deployment"},
	} {
		got := registry(t).Select(&v1alpha1.ClassRuntimeSpec{NfrRequirements: &tc.nfr}, template.Environment{Profile: "other"}, "")
		if got.Template.Name() != tc.want {
			t.Errorf("%s: %s, want %s", name, got.Template.Name(), tc.want)
		}
	}
}

func TestSelectByName(t *testing.T) {
	t.Parallel()
	off, on := stub{name: "absent", aliases: []string{"abs"}, score: 900_000}, stub{name: "other", score: 1, works: true}
	for wish, want := range map[string]template.Selection{
		"edge":       {Template: stub{name: "edge"}},
		"deployment": {Template: stub{name: "k8s_deployment"}},
		"k8s":        {Template: stub{name: "k8s_deployment"}},
		"full":       {Template: stub{name: "k8s_deployment"}},
		"other":      {Template: stub{name: "other"}},
		"Edge":       {Template: stub{name: "dev"}, Unknown: "Edge"},
		"kn":         {Template: stub{name: "knative"}},
		"abs":        {Template: off},
		"":           {Template: stub{name: "dev"}},
	} {
		got := registry(t, off, on).Select(&v1alpha1.ClassRuntimeSpec{SelectedTemplate: wish}, template.Environment{Profile: "dev"}, "")
		if got.Template.Name() != want.Template.Name() || got.Unknown != want.Unknown {
			t.Errorf("%q: %s, unknown %q; want %s, %q", wish, got.Template.Name(), got.Unknown, want.Template.Name(), want.Unknown)
		}
	}
	rendered, err := registry(t).Render(template.Input{Name: "a", Namespace: "n", Spec: &v1alpha1.ClassRuntimeSpec{SelectedTemplate: "nope"}})
	if err != nil || !slices.ContainsFunc(rendered.Warnings, func(w string) bool { return strings.Contains(w, `"nope" is not known`) }) {
		t.Errorf("no warning about an unknown template: %v, %v", rendered, err)
	}
}

func TestSelectWithKnative(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ profile, plain, inDC, atEdge string }{
		{"dev", "dev", "dev", "dev"},
		{"edge", "edge", "edge", "edge"},
		{"full", "knative", "knative", "edge"},
		{"prod", "knative", "knative", "edge"},
		{"production", "knative", "knative", "edge"},
		{"k8s_deployment", "k8s_deployment", "knative", "edge"},
		{"other", "knative", "knative", "edge"},
	} {
		env := template.Environment{Profile: tc.profile, Knative: true}
		dc, edge := env, env
		dc.Datacenter, edge.Edge = true, true
		r, spec := registry(t), &v1alpha1.ClassRuntimeSpec{}
		got := []string{r.Select(spec, env, "").Template.Name(), r.Select(spec, dc, "").Template.Name(), r.Select(spec, edge, "").Template.Name()}
		if want := []string{tc.plain, tc.inDC, tc.atEdge}; !slices.Equal(got, want) {
			t.Errorf("profile %q: %v, want %v", tc.profile, got, want)
		}
	}
}

// Where all pods have what Knative takes with features only that are off by default, no
// score chooses it; by name it is still to be had.
func TestKnativeIsNotChosenWhereItRefusesAllPods(t *testing.T) {
	t.Parallel()
	env := template.Environment{Profile: "full", Knative: true}
	env.Pods.NodeSelector = map[string]string{"pool": "functions"}
	for wish, want := range map[string]string{"": "k8s_deployment", "kn": "knative"} {
		if got := registry(t).Select(&v1alpha1.ClassRuntimeSpec{SelectedTemplate: wish}, env, "").Template.Name(); got != want {
			t.Errorf("%q: %s, want %s", wish, got, want)
		}
	}
}

// What runs stays where it is when an API comes or goes, unless the class asks for
// another template.
func TestCurrentTemplateIsKept(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.ClassRuntimeSpec{Addons: []string{}, Functions: []v1alpha1.FunctionSpec{echo("echo")}}
	with := func(knative bool, current, wish string) template.Input {
		in := input(spec)
		in.Spec.SelectedTemplate, in.Environment.Knative, in.Current = wish, knative, current
		return in
	}
	for _, tc := range []struct {
		in   template.Input
		want string
	}{
		{with(true, "", ""), "knative"},
		{with(true, "k8s_deployment", ""), "k8s_deployment"},
		{with(true, "k8s_deployment", "knsvc"), "knative"},
		{with(false, "", ""), "k8s_deployment"},
		{with(false, "knative", "dev"), "dev"},
		{with(true, "gone", "nope"), "knative"},
	} {
		rendered, err := registry(t).Render(tc.in)
		if err != nil || rendered.Template != tc.want {
			t.Errorf("knative %t, runs with %q, asks for %q: %+v, %v", tc.in.Environment.Knative, tc.in.Current, tc.in.Spec.SelectedTemplate, rendered, err)
		}
	}
	for _, in := range []template.Input{with(false, "knative", ""), with(false, "k8s_deployment", "kn"), with(false, "knative", "nope")} {
		_, err := registry(t).Render(in)
		var missing *template.MissingCapabilityError
		if !errors.As(err, &missing) || missing.Template != "knative" || !strings.Contains(err.Error(), "serving.knative.dev/v1") {
			t.Errorf("runs with %q, asks for %q without Knative: %v", in.Current, in.Spec.SelectedTemplate, err)
		}
	}
}

func TestRegistryRefusesDoubleNames(t *testing.T) {
	t.Parallel()
	for name, templates := range map[string][]template.Template{
		"none":         nil,
		"name":         {stub{name: "a"}, stub{name: "a"}},
		"alias":        {stub{name: "a"}, stub{name: "b", aliases: []string{"a"}}},
		"own alias":    {stub{name: "a", aliases: []string{"a"}}},
		"without name": {stub{}},
	} {
		if _, err := template.NewRegistry(templates...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
