package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// childManager is the field manager with which children are written.
const childManager = "oprc-crm"

// derived are kinds whose objects Kubernetes makes itself, with labels that it copies from what they stand for.
var derived = []string{"Pod", "ReplicaSet", "ControllerRevision", "Endpoints", "EndpointSlice", "Event", "Lease", "PodMetrics", classRuntimeKind}

// childKinds are all kinds of objects of a namespace of which a manager may have made some. The cluster is asked, so that a
// kind which a template renders only since yesterday is among them.
func (s *crmStack) childKinds() ([]schema.GroupVersionKind, error) {
	d, err := discovery.NewDiscoveryClientForConfig(s.cluster.RESTConfig())
	if err != nil {
		return nil, err
	}
	lists, err := d.ServerPreferredNamespacedResources()
	if err != nil {
		return nil, fmt.Errorf("ask for the kinds of objects: %w", err)
	}
	return kindsOf(lists)
}

// kindsOf picks the kinds that can be listed and that something but Kubernetes itself makes.
func kindsOf(lists []*metav1.APIResourceList) ([]schema.GroupVersionKind, error) {
	var kinds []schema.GroupVersionKind
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("version %q: %w", list.GroupVersion, err)
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch") && !slices.Contains(derived, r.Kind) {
				kinds = append(kinds, version.WithKind(r.Kind))
			}
		}
	}
	return kinds, nil
}

// childRef is a child as it is found.
type childRef struct {
	kind, name string
	// owner is the name of its class, as the label has it.
	owner      string
	uid        string
	generation int64
}

func (c childRef) key() string { return c.kind + "/" + c.name }

// children lists what carries the label of a class, of all kinds, by its metadata.
func (s *crmStack) children(ctx context.Context, kinds []schema.GroupVersionKind) ([]childRef, error) {
	var all []childRef
	for _, kind := range kinds {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		if err := s.client.List(ctx, list, client.InNamespace(s.namespace), client.HasLabels{ownerLabel}); err != nil {
			return nil, fmt.Errorf("list %s: %w", kind.Kind, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			all = append(all, childRef{
				kind: kind.Kind, name: o.Name, owner: o.Labels[ownerLabel], uid: string(o.UID), generation: o.Generation,
			})
		}
	}
	return all, nil
}

// shape is what the children of one class are called: kind and name, with the name of the class taken out.
func shape(owner string, children []childRef) []string {
	var out []string
	for _, c := range children {
		if c.owner == owner {
			out = append(out, c.kind+"/"+strings.Replace(c.name, owner, "*", 1))
		}
	}
	slices.Sort(out)
	return out
}

// leastShape is what every class of two container functions has at least, whatever else is rendered for it.
var leastShape = []string{"Deployment/*-fn-0", "Deployment/*-fn-1", "Service/*-fn-0", "Service/*-fn-1"}

// compareShapes tells how the children differ from what the classes must have. All classes have the same spec up to the
// images, so all must have the same children; which kinds these are is not for this program to know.
func compareShapes(classes []string, children []childRef) []string {
	by := map[string][]childRef{}
	for _, c := range children {
		by[c.owner] = append(by[c.owner], c)
	}
	if len(classes) == 0 && len(by) == 0 {
		return nil
	}
	var want []string
	votes := map[string]int{}
	for _, name := range classes {
		s := strings.Join(shape(name, by[name]), " ")
		votes[s]++
		if votes[s] > votes[strings.Join(want, " ")] || want == nil {
			want = strings.Fields(s)
		}
	}
	var problems []string
	for _, least := range leastShape {
		if !slices.Contains(want, least) {
			problems = append(problems, fmt.Sprintf("most classes have no %s: %v", least, want))
		}
	}
	for _, name := range classes {
		if have := shape(name, by[name]); !slices.Equal(have, want) {
			problems = append(problems, fmt.Sprintf("%s has %v, want %v", name, have, want))
		}
		delete(by, name)
	}
	for _, owner := range slices.Sorted(maps.Keys(by)) {
		problems = append(problems, fmt.Sprintf("%d children of %s, which is not wanted", len(by[owner]), owner))
	}
	return problems
}

// replaced are the children that are not the objects they were, those apart whose name is among the exceptions.
func replaced(before, after []childRef, exceptions map[string]bool) []string {
	was := map[string]string{}
	for _, c := range before {
		was[c.key()] = c.uid
	}
	var out []string
	for _, c := range after {
		if uid, known := was[c.key()]; known && uid != c.uid && !exceptions[c.key()] {
			out = append(out, c.key())
		}
	}
	slices.Sort(out)
	return out
}

// harvest reads all children whole and gives, by class, what the manager applied: what it owns of them, and nothing of what
// the server, its controllers or its defaults added. This is what anybody would have to apply to get the same objects.
func (s *crmStack) harvest(ctx context.Context, kinds []schema.GroupVersionKind) (map[string][]*unstructured.Unstructured, error) {
	out := map[string][]*unstructured.Unstructured{}
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := s.client.List(ctx, list, client.InNamespace(s.namespace), client.HasLabels{ownerLabel}); err != nil {
			return nil, fmt.Errorf("list %s: %w", kind.Kind, err)
		}
		err := meta.EachListItem(list, func(object runtime.Object) error {
			u, ok := object.(*unstructured.Unstructured)
			if !ok {
				return fmt.Errorf("%T in a list of %s", object, kind.Kind)
			}
			stripped, err := applied(u, childManager)
			if err != nil {
				return err
			}
			owner := u.GetLabels()[ownerLabel]
			out[owner] = append(out[owner], stripped)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, objects := range out {
		// The order in which a manager applies: what serves callers comes before what answers them, others first.
		slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return applyRank(a) - applyRank(b) })
	}
	return out, nil
}

func applyRank(u *unstructured.Unstructured) int {
	switch u.GetKind() {
	case "Deployment":
		return 2
	case "Service":
		return 1
	}
	return 0
}

// applied is the part of an object that a field manager applied, ready to be applied to another namespace: without the
// owner, which is not there, and without namespace.
func applied(u *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	for _, entry := range u.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		fields := map[string]any{}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			return nil, fmt.Errorf("fields of %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		content, ok := pick(u.Object, fields).(map[string]any)
		if !ok {
			return nil, fmt.Errorf("fields of %s %s are those of no object", u.GetKind(), u.GetName())
		}
		out := &unstructured.Unstructured{Object: content}
		out.SetGroupVersionKind(u.GroupVersionKind())
		out.SetName(u.GetName())
		out.SetOwnerReferences(nil)
		unstructured.RemoveNestedField(out.Object, "status")
		return out, nil
	}
	return nil, fmt.Errorf("%s %s was not applied by %s", u.GetKind(), u.GetName(), manager)
}

// pick is the part of a value that a set of fields names, in the form in which managedFields have them: "f:" is a member,
// "k:" an item of a list by its keys, "v:" an item by its value, "." the thing itself. A set without any is all of it.
func pick(value any, fields map[string]any) any {
	if len(fields) == 0 {
		return value
	}
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, below := range fields {
			name, isMember := strings.CutPrefix(key, "f:")
			member, has := v[name]
			if isMember && has {
				out[name] = pick(member, fieldSet(below))
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			for key, below := range fields {
				if names(key, item) {
					out = append(out, pick(item, fieldSet(below)))
				}
			}
		}
		return out
	}
	return value
}

func fieldSet(v any) map[string]any {
	set, _ := v.(map[string]any)
	return set
}

// names reports whether a key of a set of fields is that of an item of a list.
func names(key string, item any) bool {
	kind, text, _ := strings.Cut(key, ":")
	var want any
	if json.Unmarshal([]byte(text), &want) != nil {
		return false
	}
	switch kind {
	case "k":
		keys, isMap := want.(map[string]any)
		members, hasMembers := item.(map[string]any)
		if !isMap || !hasMembers {
			return false
		}
		for name, value := range keys {
			if !sameJSON(members[name], value) {
				return false
			}
		}
		return true
	case "v":
		return sameJSON(item, want)
	}
	return false
}

// sameJSON compares values that were decoded in different ways: a number may be an integer in one and not in the other.
func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
