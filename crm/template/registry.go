package template

import (
	"errors"
	"fmt"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Registry holds the templates in the order in which ties are decided.
type Registry struct {
	templates []Template
	byName    map[string]Template
}

// Selection is the outcome of Select.
type Selection struct {
	// Template is never nil.
	Template Template
	// Unknown is the template that the spec asks for and nobody knows. It is empty
	// when the wish was met or there was none.
	Unknown string
}

// Builtin returns the templates of this package, in the order in which ties are
// decided.
func Builtin() []Template {
	return []Template{
		&deploymentTemplate{name: "dev", odgmImage: odgmImageDev, score: scoreDev},
		&deploymentTemplate{name: "edge", odgmImage: odgmImage, score: scoreEdge, resilient: true},
		&deploymentTemplate{
			name: "k8s_deployment", aliases: []string{"deployment", "k8s", "full"},
			odgmImage: odgmImage, score: scoreK8sDeployment, resilient: true,
		},
		&knativeTemplate{},
	}
}

// NewRegistry returns a registry of the templates. Names and aliases have to
// be unique, and at least one template is needed.
func NewRegistry(templates ...Template) (*Registry, error) {
	if len(templates) == 0 {
		return nil, errors.New("a template registry needs at least one template")
	}
	r := &Registry{byName: map[string]Template{}}
	for _, t := range templates {
		for _, name := range append([]string{t.Name()}, t.Aliases()...) {
			if name == "" {
				return nil, fmt.Errorf("template %q has an empty name or alias", t.Name())
			}
			if other, taken := r.byName[name]; taken {
				return nil, fmt.Errorf("template name %q is used by %q and by %q", name, other.Name(), t.Name())
			}
			r.byName[name] = t
		}
		r.templates = append(r.templates, t)
	}
	return r, nil
}

// Names returns the names of the templates in order.
func (r *Registry) Names() []string {
	names := make([]string, len(r.templates))
	for i, t := range r.templates {
		names[i] = t.Name()
	}
	return names
}

// Select returns the template for a spec: the one it asks for, else the one that
// rendered this spec before, else the one with the highest score among those that can
// work here; the earlier one wins a tie. If no template can work here the first one is
// returned, so that its own error says what is missing.
func (r *Registry) Select(spec *v1alpha1.ClassRuntimeSpec, env Environment, current string) Selection {
	wish := spec.SelectedTemplate
	if t, known := r.byName[wish]; known {
		return Selection{Template: t}
	}
	if t, known := r.byName[current]; known {
		return Selection{Template: t, Unknown: wish}
	}
	best, bestScore := r.templates[0], 0
	found := false
	for _, t := range r.templates {
		score, ok := t.Score(env, spec.NfrRequirements)
		if ok && (!found || score > bestScore) {
			best, bestScore, found = t, score, true
		}
	}
	return Selection{Template: best, Unknown: wish}
}

// Render selects a template and renders with it. The error is an *InvalidSpecError
// when the spec is wrong, and a *MissingCapabilityError when the template cannot work
// here.
func (r *Registry) Render(in Input) (*Rendered, error) {
	selection := r.Select(in.Spec, in.Environment, in.Current)
	if _, ok := selection.Template.Score(in.Environment, in.Spec.NfrRequirements); !ok {
		missing := &MissingCapabilityError{Template: selection.Template.Name()}
		if t, is := selection.Template.(Requiring); is {
			missing.Needs = t.Needs()
		}
		return nil, missing
	}
	rendered, err := selection.Template.Render(in)
	if err != nil {
		return nil, err
	}
	if selection.Unknown != "" {
		rendered.Warnings = append(rendered.Warnings, fmt.Sprintf(
			"spec.selected_template %q is not known here; %q was chosen instead (known: %v)",
			selection.Unknown, rendered.Template, r.Names()))
	}
	return rendered, nil
}
