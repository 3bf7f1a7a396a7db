package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// manyFunctions are those of the largest of the bad objects.
	manyFunctions = 500
	// verdictPatience bounds the time until all bad objects have the status that is expected of them. A fault that may pass
	// counts after half a minute.
	verdictPatience = 4 * time.Minute
	// settledFor is how long the manager is looked at once all is said.
	settledFor = 30 * time.Second
)

// verdict is what is to become of an object: that it is refused, or a phase with the reason of the condition Degraded.
type verdict struct {
	refused bool
	phase   v1alpha1.Phase
	reason  v1alpha1.Reason
}

var (
	refusedObject   = verdict{refused: true}
	availableObject = verdict{phase: v1alpha1.PhaseAvailable}
)

func degradedBy(reason v1alpha1.Reason) verdict {
	return verdict{phase: v1alpha1.PhaseDegraded, reason: reason}
}

func (v verdict) String() string {
	if v.refused {
		return "refused by the API server"
	}
	return strings.TrimSpace(string(v.phase) + " " + string(v.reason))
}

// verdictOn is how an object stands; ok is false while the manager has not looked at what it is now.
func verdictOn(c *v1alpha1.ClassRuntime) (v verdict, ok bool) {
	v.phase = c.Status.Phase
	if d := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ConditionDegraded); d != nil && d.Status == metav1.ConditionTrue {
		v.reason = d.Reason
	}
	return v, c.Status.ObservedGeneration == c.Generation
}

// badObject is an object that nobody should write, and what is expected of it.
type badObject struct {
	about string
	name  string
	spec  map[string]any
	// after is an object that has to be available before this one is written; empty for none.
	after string
	// edit is done to the object when it has become available as it was created.
	edit func(context.Context, *crmStack, string) error
	want verdict
}

// measureBadObjects writes nonsense past all checks of the product, straight to the API server.
func (b *crmBench) measureBadObjects(ctx context.Context) ([]bench.Result, error) {
	s, err := b.newStack(ctx, "bad-input")
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	m, err := s.startManager(ctx, "crm", true)
	if err != nil {
		return nil, err
	}
	pid := m.process.PID()
	objects := badObjects()
	wrong := map[string]string{}
	for i := range objects {
		o := &objects[i]
		if err := s.submit(ctx, o); err != nil {
			wrong[o.name] = fmt.Sprintf("%s: %v", o.about, err)
		}
	}
	say("  %d objects are written", len(objects))
	s.expectVerdicts(ctx, objects, wrong)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.gate.Reset()
	if err := stillness(ctx, settledFor); err != nil {
		return nil, err
	}
	s.recheck(ctx, objects, wrong)
	tellProblems(slices.Collect(maps.Values(wrong)))
	for _, line := range m.gate.Recent() {
		say("  written afterwards: %s", line)
	}
	m.remember()
	crashes := m.logged("the Kubernetes side ended")
	if !m.running() || m.process.PID() != pid {
		crashes++
	}
	counts := m.gate.Counts()
	return []bench.Result{
		bench.Exactly("bad_input_wrong_status", float64(len(wrong)), 0, "", fmt.Sprintf("of %d objects written straight to the API server, each with a phase and a reason expected of it, or its refusal: %s", len(objects), aboutText(objects))),
		bench.Exactly("bad_input_crashes", float64(crashes), 0, "", "ends of the process, or of its controller"),
		bench.Exactly("bad_input_panics", float64(m.logged("panic")), 0, "", "in its log"),
		bench.Info("bad_input_writes_after", float64(counts.Writes), "", fmt.Sprintf("in %s after all had their status: %s", settledFor, requestsText(counts.ByRequest, 1))),
		bench.Info("bad_input_memory_peak", b.memory, "MiB", "highest VmHWM of any manager so far"),
	}, nil
}

func aboutText(objects []badObject) string {
	texts := make([]string, len(objects))
	for i, o := range objects {
		texts[i] = o.about + " (" + o.want.String() + ")"
	}
	return strings.Join(texts, ", ")
}

// submit writes an object, and edits it if it is to be edited. An error is a verdict that is not the expected one.
func (s *crmStack) submit(ctx context.Context, o *badObject) error {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(v1alpha1.GroupVersionKind)
	u.SetNamespace(s.namespace)
	u.SetName(o.name)
	if o.spec != nil {
		u.Object["spec"] = o.spec
	}
	if o.after != "" {
		if err := s.awaitVerdict(ctx, o.after, availableObject); err != nil {
			return err
		}
	}
	err := s.client.Create(ctx, u)
	refused := apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
	switch {
	case o.want.refused && refused:
		return nil
	case o.want.refused:
		return fmt.Errorf("answered %w, want a refusal", err)
	case err != nil || o.edit == nil:
		return err
	}
	if err := s.awaitVerdict(ctx, o.name, availableObject); err != nil {
		return err
	}
	return o.edit(ctx, s, o.name)
}

func (s *crmStack) awaitVerdict(ctx context.Context, name string, want verdict) error {
	ctx, cancel := context.WithTimeout(ctx, verdictPatience)
	defer cancel()
	return system.Poll(ctx, name+" is "+want.String(), func(ctx context.Context) (bool, error) {
		return s.hasVerdict(ctx, name, want)
	})
}

func (s *crmStack) hasVerdict(ctx context.Context, name string, want verdict) (bool, error) {
	c := &v1alpha1.ClassRuntime{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, c); err != nil {
		return false, err
	}
	have, ok := verdictOn(c)
	if !ok || have != want {
		return false, fmt.Errorf("it is %s: %s", have, c.Status.Message)
	}
	return true, nil
}

// expectVerdicts waits until all objects stand as expected at the same time, and notes those that do not in the end.
func (s *crmStack) expectVerdicts(ctx context.Context, objects []badObject, wrong map[string]string) {
	limit, cancel := context.WithTimeout(ctx, verdictPatience)
	defer cancel()
	var left []string
	err := system.Poll(limit, "all objects have their status", func(ctx context.Context) (bool, error) {
		list := &v1alpha1.ClassRuntimeList{}
		if err := s.client.List(ctx, list, client.InNamespace(s.namespace)); err != nil {
			return false, err
		}
		left = unexpected(objects, list.Items, wrong)
		return len(left) == 0, nil
	})
	if err != nil {
		say("  not as expected after %s: %v", verdictPatience, left)
	}
}

// unexpected are the objects, by name, that do not stand as expected. Those that are wrong for good are not asked about.
func unexpected(objects []badObject, classes []v1alpha1.ClassRuntime, wrong map[string]string) []string {
	by := map[string]*v1alpha1.ClassRuntime{}
	for i := range classes {
		by[classes[i].Name] = &classes[i]
	}
	var out []string
	for _, o := range objects {
		if wrong[o.name] != "" || o.want.refused {
			continue
		}
		c := by[o.name]
		if c == nil {
			out = append(out, o.name)
			continue
		}
		if have, ok := verdictOn(c); !ok || have != o.want {
			out = append(out, o.name)
		}
	}
	return out
}

// recheck notes the objects that do not stand as expected in the end.
func (s *crmStack) recheck(ctx context.Context, objects []badObject, wrong map[string]string) {
	for _, o := range objects {
		if wrong[o.name] != "" || o.want.refused {
			continue
		}
		if _, err := s.hasVerdict(ctx, o.name, o.want); err != nil {
			wrong[o.name] = fmt.Sprintf("%s: want %s, %v", o.about, o.want, err)
		}
	}
}

// container is a function with an image and further members of its provision_config, given as pairs.
func container(key string, members ...any) map[string]any {
	config := map[string]any{"container_image": image("odd", 1)}
	for i := 0; i+1 < len(members); i += 2 {
		config[fmt.Sprint(members[i])] = members[i+1]
	}
	return map[string]any{"function_key": key, "provision_config": config}
}

// specOf is a spec without an object store.
func specOf(functions ...any) map[string]any {
	if functions == nil {
		functions = []any{}
	}
	return map[string]any{"package_class_key": "bench.Odd", "addons": []any{}, "functions": functions}
}

// with sets a member of a spec.
func with(spec map[string]any, member string, value any) map[string]any {
	spec[member] = value
	return spec
}

// configured is a function with a variable.
func configured(name, value string) map[string]any {
	f := container("Odd.f")
	f["config"] = map[string]any{name: value}
	return f
}

// editSpec changes the spec of an object that runs.
func editSpec(change func(*v1alpha1.ClassRuntimeSpec)) func(context.Context, *crmStack, string) error {
	return func(ctx context.Context, s *crmStack, name string) error {
		return s.edit(ctx, &v1alpha1.ClassRuntime{}, name, func(object client.Object) {
			if c, ok := object.(*v1alpha1.ClassRuntime); ok {
				change(&c.Spec)
			}
		}, func(object client.Object) error { return s.client.Update(ctx, object) })
	}
}

// edit changes an object until nobody else was faster.
func (s *crmStack) edit(ctx context.Context, object client.Object, name string, change func(client.Object), write func(client.Object) error) error {
	for {
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, object); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		change(object)
		err := write(object)
		if err == nil || !apierrors.IsConflict(err) {
			return wrapped(err, "edit "+name)
		}
	}
}

// editStatus writes nonsense where only the manager writes.
func editStatus(ctx context.Context, s *crmStack, name string) error {
	return s.edit(ctx, &v1alpha1.ClassRuntime{}, name, func(object client.Object) {
		if c, ok := object.(*v1alpha1.ClassRuntime); ok {
			c.Status = v1alpha1.ClassRuntimeStatus{Phase: "nonsense", Message: "nonsense", ObservedGeneration: 7777}
		}
	}, func(object client.Object) error { return s.client.Status().Update(ctx, object) })
}

// editChild makes another program of a child and takes the label from it. It still has its owner, so it is repaired.
func editChild(ctx context.Context, s *crmStack, name string) error {
	var uid string
	err := s.edit(ctx, &appsv1.Deployment{}, name, func(object client.Object) {
		if d, ok := object.(*appsv1.Deployment); ok {
			uid = string(d.UID)
			d.Spec.Template.Spec.Containers[0].Image = image("other", 1)
			delete(d.Labels, ownerLabel)
		}
	}, func(object client.Object) error { return s.client.Update(ctx, object) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verdictPatience)
	defer cancel()
	return system.Poll(ctx, "the child is repaired", func(ctx context.Context) (bool, error) {
		d := &appsv1.Deployment{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, d); err != nil {
			return false, err
		}
		if d.Spec.Template.Spec.Containers[0].Image != image("odd", 1) || d.Labels[ownerLabel] != name || string(d.UID) != uid {
			return false, fmt.Errorf("it runs %s, labels %v", d.Spec.Template.Spec.Containers[0].Image, d.Labels)
		}
		return true, nil
	})
}

// takeChild takes a child from its class altogether. Nothing tells it from an object of somebody else then.
func takeChild(ctx context.Context, s *crmStack, name string) error {
	return s.edit(ctx, &appsv1.Deployment{}, name, func(object client.Object) {
		labels := object.GetLabels()
		delete(labels, ownerLabel)
		object.SetLabels(labels)
		object.SetOwnerReferences(nil)
	}, func(object client.Object) error { return s.client.Update(ctx, object) })
}
