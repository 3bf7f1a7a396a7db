package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
	"oaas.io/control-plane/crm/presence"
)

// Change is what would become of an object.
type Change string

// The changes.
const (
	ChangeNone   Change = "none"
	ChangeCreate Change = "create"
	ChangeUpdate Change = "update"
	ChangeDelete Change = "delete"
)

// Preview is what the controller would make of a class runtime.
type Preview struct {
	// Template that renders it; empty when none can.
	Template string
	Children []ChildPreview
	// Warnings of the template.
	Warnings []string
	// Fault is why nothing can be rendered.
	Fault *lifecycle.Fault
}

// ChildPreview is what would become of one child.
type ChildPreview struct {
	Kind, Name string
	Change     Change
	// Fault is why the API server, or the owner of the name, would not have it; nil
	// when nothing is in the way.
	Fault *lifecycle.Fault
}

// Previewer does what the controller does, except that the API server stores nothing.
type Previewer struct {
	opts Options
	// dry reads from the cache; its writes are admitted and thrown away.
	dry  client.Client
	live client.Reader
}

// NewPreviewer makes one with the options of the controller. The client reads from a
// cache that was made with CacheOptions, and live from the API server.
func NewPreviewer(c client.Client, live client.Reader, opts Options) (*Previewer, error) {
	metrics, err := NewMetrics(nil) // what is only tried does not count
	if err != nil {
		return nil, err
	}
	opts.Metrics = metrics
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	return &Previewer{opts: opts, dry: client.NewDryRunClient(c), live: live}, nil
}

// knative reads what the controller has in a cache of its own from the API server.
func (v *Previewer) knative() *knative {
	if v.opts.Presence == nil || !v.opts.Presence.Has(presence.KnativeServices) {
		return nil
	}
	return &knative{opts: v.opts, reader: v.live}
}

// Preview applies the children of the object, which the API server need not know, and
// says how each would change. What fails for a reason that may pass is an error.
func (v *Previewer) Preview(ctx context.Context, object *v1alpha1.ClassRuntime) (*Preview, error) {
	r := &reconciler{
		opts: v.opts, log: v.opts.Logger, client: v.dry, live: v.live,
		applier: newApplier(v.dry, v.live, v.opts.Metrics, v.opts.Clock),
		stored:  map[types.NamespacedName]uint64{},
		knative: v.knative(),
	}
	r.applier.dry = true
	p, err := r.look(ctx, object)
	if err != nil {
		return nil, err
	}
	out := &Preview{Fault: p.fault}
	if p.rendered == nil {
		return out, nil
	}
	out.Template, out.Warnings = p.rendered.Template, p.rendered.Warnings
	wanted := map[childID]bool{}
	for i := range p.rendered.Objects {
		intent := &p.rendered.Objects[i]
		id := childID{gvk: intent.GVK, name: intent.Name}
		wanted[id] = true
		one := ChildPreview{Kind: kindWord(id.gvk), Name: id.name, Change: ChangeCreate}
		existing := p.children[id].object
		before := ""
		if existing != nil {
			one.Change, before = ChangeUpdate, fingerprint(existing, intent.Replicas)
		}
		answer, err := r.applier.apply(ctx, p.object, intent, existing)
		switch {
		case err != nil && passing(ctx, err):
			return nil, fmt.Errorf("preview %s: %w", id, err)
		case err != nil:
			one.Fault = r.applier.fault(p.object, id)
		case before == fingerprint(answer, intent.Replicas):
			one.Change = ChangeNone
		}
		out.Children = append(out.Children, one)
	}
	out.Children = append(out.Children, pruned(p, wanted)...)
	return out, nil
}

// pruned are the children that would go, by kind and name.
func pruned(p *pass, wanted map[childID]bool) []ChildPreview {
	var out []ChildPreview
	for id, c := range p.children {
		if !wanted[id] && controlledBy(c.object, p.object) {
			out = append(out, ChildPreview{Kind: kindWord(id.gvk), Name: id.name, Change: ChangeDelete})
		}
	}
	slices.SortFunc(out, func(a, b ChildPreview) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}
