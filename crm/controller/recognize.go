package controller

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/template"
)

// AnnotationIntent is on every child. Its value is the hash of what was applied last, so
// that a controller that takes over recognises the children that stand as they should,
// and does not apply all of them again.
const AnnotationIntent = "oaas.io/applied-intent"

// document is the configuration of an intent with the mark of it.
func document(intent *template.Object) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(intent.Configuration)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	object := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(text, &object.Object); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationIntent] = intent.Hash
	object.SetAnnotations(annotations)
	return object, nil
}

// recognize reports whether a child of which nothing is known yet stands as an earlier
// controller applied this very intent, and remembers it then. The annotation says that
// nothing else was applied since, so that no field of an earlier intent is left; that
// every field of this one has its value is seen in the child itself. Whatever else is
// different is applied, which is never wrong.
func (a *applier) recognize(owner *v1alpha1.ClassRuntime, intent *template.Object, existing client.Object) bool {
	if existing.GetAnnotations()[AnnotationIntent] != intent.Hash || !controlledBy(existing, owner) || !holds(intent, existing) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	m, id := a.of(owner), childID{gvk: intent.GVK, name: intent.Name}
	if _, known := m.marks[id]; known || m.faults[id] != nil {
		return false // what this controller did itself says more
	}
	m.marks[id] = markOf(intent, existing)
	return true
}

// holds reports whether a child has every field of an intent, with its value, and
// replicas within the bounds where the intent leaves them to others.
func holds(intent *template.Object, existing client.Object) bool {
	if d, ok := existing.(*appsv1.Deployment); ok && intent.Replicas != nil {
		_, noted := d.Annotations[AnnotationKept]
		switch intent.Replicas.By {
		case template.BySpec:
			if noted {
				return false // the note of an earlier autoscaler is to be dropped
			}
		case template.ByOthers:
		case template.ByAutoscaler, template.ByEnforcer, template.ByPast:
			if n := replicasOf(d); intent.Replicas.Clamp(n) != n {
				return false
			}
		}
	}
	text, err := json.Marshal(intent.Configuration)
	if err != nil {
		return false
	}
	// Through the same type, so that a quantity is written the same way in both.
	wanted := newObject(intent.GVK)
	if wanted == nil || json.Unmarshal(text, wanted) != nil {
		return false
	}
	want, err := fieldsOf(wanted)
	if err != nil {
		return false
	}
	have, err := fieldsOf(existing)
	return err == nil && contains(have, want)
}

// fieldsOf is an object as JSON knows it, without its type and its status.
func fieldsOf(object client.Object) (map[string]any, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := utiljson.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	for _, left := range []string{"apiVersion", "kind", "status"} {
		delete(fields, left)
	}
	return fields, nil
}

// contains reports whether a value has everything that another one asks for. The API
// server adds fields, also to the elements of lists, but no elements: a list with more or
// fewer of them was changed by somebody.
func contains(have, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		fields, ok := have.(map[string]any)
		if !ok && (have != nil || len(want) > 0) {
			return false
		}
		for key, value := range want {
			if !contains(fields[key], value) {
				return false
			}
		}
		return true
	case []any:
		elements, ok := have.([]any)
		if !ok && have != nil || len(elements) != len(want) {
			return false
		}
		for i := range want {
			if !contains(elements[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return equality.Semantic.DeepEqual(have, want)
	}
}
