package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// AnnotationSpecHash is "<version>:<epoch>/<fence>:<hash>": with which order a manager
// stored the spec last, and a hash of what it stored. The delivery in the spec says what
// was to be stored; only this tells whether it is still there.
const AnnotationSpecHash = "oaas.io/spec-hash"

// specHashVersion changes with everything that changes the hash of an unchanged spec.
// Hashes of another version are not compared: an update of the manager must not make
// all objects look as if they had been changed.
const specHashVersion = "v1"

// specHash is the annotation of an object with a delivery. It covers what a delivery
// decides; what people may set beside it is left out: addons, enforcement, and pods
// unless they are the unit's. The API server sets defaults only in addons, and elsewhere
// to what the typed spec has anyway, so that the hash is the same before and after it
// stored the object.
func specHash(object *v1alpha1.ClassRuntime) (string, error) {
	covered := object.Spec
	covered.Addons, covered.Enforcement = nil, nil
	if object.Annotations[AnnotationPods] != podsOfUnit {
		covered.Pods = nil
	}
	text, err := json.Marshal(&covered)
	if err != nil {
		return "", fmt.Errorf("encode the spec: %w", err)
	}
	sum := sha256.Sum256(text)
	return hashOrder(covered.Delivery) + hex.EncodeToString(sum[:]), nil
}

// hashOrder is what stands before the hash.
func hashOrder(d *v1alpha1.Delivery) string {
	return fmt.Sprintf("%s:%d/%d:", specHashVersion, d.Epoch, d.Fence)
}

// hashedOrder is the order that the annotation of an object names.
func hashedOrder(object *v1alpha1.ClassRuntime) (order, bool) {
	var o order
	_, err := fmt.Sscanf(object.Annotations[AnnotationSpecHash], specHashVersion+":%d/%d:", &o.Epoch, &o.Fence)
	return o, err == nil
}

// drifted reports that a spec is not what the manager stored with its delivery. An
// object without a hash is believed, and so is one whose hash is of another order: it
// was stored by a manager of an earlier build, or its order was changed by hand, and then the
// order says so itself.
func drifted(object *v1alpha1.ClassRuntime) bool {
	stored, d := object.Annotations[AnnotationSpecHash], object.Spec.Delivery
	if stored == "" || d == nil || !strings.HasPrefix(stored, hashOrder(d)) {
		return false
	}
	now, err := specHash(object)
	return err == nil && now != stored
}

// deliveryOfObject is the delivery that an object really has: one whose spec was changed
// since has no content that a package manager knows, so that it sends its own again.
func deliveryOfObject(object *v1alpha1.ClassRuntime) *v1alpha1.Delivery {
	if !drifted(object) {
		return object.Spec.Delivery
	}
	d := *object.Spec.Delivery
	d.ContentHash = ""
	return &d
}

// changedFields names the members of the spec that differ.
func changedFields(a, b *v1alpha1.ClassRuntimeSpec) []string {
	left, right := members(a), members(b)
	var names []string
	for name := range left {
		if _, too := right[name]; !too {
			names = append(names, "spec."+name)
		}
	}
	for name, value := range right {
		if !bytes.Equal(left[name], value) {
			names = append(names, "spec."+name)
		}
	}
	slices.Sort(names)
	return names
}

func members(spec *v1alpha1.ClassRuntimeSpec) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if text, err := json.Marshal(spec); err == nil {
		_ = json.Unmarshal(text, &out) // what was just encoded
	}
	return out
}
