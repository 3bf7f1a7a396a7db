package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// Template renders ClassRuntimes in one style.
type Template interface {
	// Name is what spec.selected_template and status.template say.
	Name() string
	// Aliases are other names under which the template can be asked for.
	Aliases() []string
	// Score says how well the template fits; the highest wins. ok is false
	// when it cannot work in this environment.
	Score(env Environment, nfr *v1alpha1.NfrRequirements) (score int, ok bool)
	// Render returns the objects, or an *InvalidSpecError.
	Render(in Input) (*Rendered, error)
}

// Requiring is a Template that needs an API that a cluster may lack.
type Requiring interface {
	// Needs names the API, for people.
	Needs() string
}

// MissingCapabilityError says that the template which a class asks for, or runs with,
// needs an API that the cluster lacks.
type MissingCapabilityError struct {
	// Template that cannot work here, and what it needs.
	Template, Needs string
}

// Error implements error.
func (e *MissingCapabilityError) Error() string {
	return fmt.Sprintf("template %q needs %s, which classes cannot use in this cluster", e.Template, e.Needs)
}

// Environment is what the manager knows about its cluster.
type Environment struct {
	// Profile is the manager's profile, for example "dev" or "full"; its case
	// does not matter.
	Profile string
	// Datacenter and Edge say where the cluster stands.
	Datacenter, Edge bool
	// Router is the Zenoh router of the namespace, nil if there is none.
	Router *Router
	// ODGM configures the object store's container.
	ODGM ODGMOptions
	// Telemetry holds the defaults for spec.telemetry.
	Telemetry TelemetryOptions
	// Pods is what all pods have in this cluster.
	Pods PodOptions
	// Knative says that the cluster has Knative Serving and that it may be used.
	Knative bool
	// HPA lets autoscalers decide the replicas of functions whose scale bounds
	// leave room.
	HPA bool
}

// Router is a Zenoh router.
type Router struct {
	// Service is its name in the ClassRuntime's namespace.
	Service string
	// Port for Zenoh; 0 is ZenohPort.
	Port int32
}

// ODGMOptions configures the object store's container.
type ODGMOptions struct {
	// Image replaces the template's default image.
	Image string
	// PullPolicy is Always, IfNotPresent or Never; empty leaves the choice to
	// the cluster.
	PullPolicy string
	// HealthPath answers GET with 2xx or 3xx when the object store is ready; empty takes it
	// for ready when its port is open.
	HealthPath string
}

// TelemetryOptions are the defaults for spec.telemetry.
type TelemetryOptions struct {
	// Enabled applies when the spec does not say.
	Enabled bool
	// Endpoint is the OTLP endpoint. Without it nothing is exported.
	Endpoint string
}

// Input is what one rendering depends on.
type Input struct {
	// Name, Namespace and UID of the ClassRuntime. With an empty UID the
	// objects get no owner reference.
	Name, Namespace, UID string
	// Spec is not changed.
	Spec *v1alpha1.ClassRuntimeSpec
	// Environment of the manager.
	Environment Environment
	// Current is the name of the template that rendered this very spec before, empty
	// if none did. A class keeps it: what it runs does not move because an API came or
	// went.
	Current string
	// Scaling is what was found to decide the replicas of Deployments besides
	// the spec, by their name.
	Scaling map[string]Scaling
}

// ODGMEnabled reports whether the object store runs beside the functions.
func (in Input) ODGMEnabled() bool {
	if in.Spec.Addons == nil {
		return true
	}
	for _, addon := range in.Spec.Addons {
		if strings.EqualFold(addon, "odgm") {
			return true
		}
	}
	return false
}

// Component says what an object is for.
type Component string

// Components of a ClassRuntime.
const (
	ComponentFunction Component = "function"
	ComponentODGM     Component = "odgm"
)

// Object is one object to apply.
type Object struct {
	// GVK and Name identify it in the ClassRuntime's namespace.
	GVK  schema.GroupVersionKind
	Name string
	// Component says what it is for.
	Component Component
	// Function is the index in spec.functions, or -1.
	Function int
	// Replicas says who decides how many pods a Deployment of a function has; nil
	// for all other objects, and for the object store.
	Replicas *Replicas
	// Configuration is complete, ready for server-side apply.
	Configuration runtime.ApplyConfiguration
	// Hash is the hex SHA-256 of the configuration's JSON.
	Hash string
}

// Rendered is the result of a rendering.
type Rendered struct {
	// Template is the name of the template that rendered.
	Template string
	// Objects in the order in which they are to be applied: the object store
	// before the functions that call it, Services before their Deployments.
	Objects []Object
	// Endpoints of the functions, in the order of spec.functions.
	Endpoints []Endpoint
	// ODGM is the name of the object store's Deployment, empty if it is off.
	ODGM string
	// Hash is the hex SHA-256 over all objects.
	Hash string
	// Warnings are about parts of the spec that were left out.
	Warnings []string
}

// InvalidSpecError says which fields of a spec cannot be rendered.
type InvalidSpecError struct {
	// Fields is never empty.
	Fields field.ErrorList
}

// Error names every wrong field and what to change.
func (e *InvalidSpecError) Error() string {
	const shown = 5
	texts := make([]string, 0, shown+1)
	for i, f := range e.Fields {
		if i == shown {
			texts = append(texts, fmt.Sprintf("and %d more", len(e.Fields)-shown))
			break
		}
		texts = append(texts, f.Error())
	}
	return strings.Join(texts, "; ")
}

// seal computes the hashes of the objects and of the whole.
func (r *Rendered) seal() error {
	whole := sha256.New()
	for i := range r.Objects {
		o := &r.Objects[i]
		data, err := json.Marshal(o.Configuration)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", o.GVK.Kind, o.Name, err)
		}
		sum := sha256.Sum256(data)
		o.Hash = hex.EncodeToString(sum[:])
		whole.Write(sum[:])
	}
	r.Hash = hex.EncodeToString(whole.Sum(nil))
	return nil
}
