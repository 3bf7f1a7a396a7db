package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/deploy/local/system"
)

const (
	// perChange is how many classes each kind of change touches.
	perChange = 3
	// changesPerFault is how often everything is changed during a fault: when it begins and shortly before it ends.
	changesPerFault = 2
	// minClasses is how many classes there must be for the changes of one fault to find some that are still there.
	minClasses = changesPerFault * 5 * perChange
	// healPatience is how long the state after a fault is waited for, beyond its bound.
	healPatience = 3 * time.Minute
	checkEvery   = 500 * time.Millisecond
	// steadyFor is how long a state that is right has to stay so.
	steadyFor = 5 * time.Second
)

// fault is something that goes wrong for a while.
type fault struct {
	name  string
	bound float64
	// lasts is how long, between begin and heal.
	lasts       time.Duration
	note        string
	begin, heal func(context.Context) error
	// blind says that nothing can be changed while it lasts.
	blind bool
}

// faultScene is a population of classes that are changed while something goes wrong.
type faultScene struct {
	*crmStack
	kinds []schema.GroupVersionKind
	// versions are the versions of the first function of every class that is wanted.
	versions map[string]int
	// next is the number of the next class, turn that of the next one to be changed.
	next, turn int
	// touched are the children that were deleted by hand, or belong to a class that was.
	touched map[string]bool
}

// measureFaults lets things go wrong, one after the other, and times how long it takes until all is well again.
func (b *crmBench) measureFaults(ctx context.Context) ([]bench.Result, error) {
	s, err := b.newStack(ctx, "faults")
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	if err := s.startReplicas(ctx); err != nil {
		return nil, err
	}
	f := &faultScene{crmStack: s, versions: map[string]int{}, next: b.options.classes}
	if f.kinds, err = s.childKinds(); err != nil {
		return nil, err
	}
	if _, err := s.populate(ctx); err != nil {
		return nil, err
	}
	for _, name := range classNames(0, b.options.classes) {
		f.versions[name] = 1
	}
	if err := s.calm(ctx); err != nil {
		return nil, err
	}
	var results []bench.Result
	recreated := 0
	for _, fault := range f.faults() {
		say("  %s ...", fault.name)
		result, lost, err := f.measure(ctx, fault)
		if err != nil {
			return results, fmt.Errorf("%s: %w", fault.name, err)
		}
		say("  %s: %g s", fault.name, result.Value)
		results, recreated = append(results, result), recreated+lost
	}
	panics := 0
	for _, m := range s.managers {
		panics += m.logged("panic")
		if !m.running() {
			return results, fmt.Errorf("%s has ended: %w", m.name, m.process.Err())
		}
	}
	return append(results,
		bench.Exactly("fault_recreated_children", float64(recreated), 0, "", "children made anew in all faults that nobody had deleted"),
		bench.Exactly("fault_panics", float64(panics), 0, "", "in the logs of both managers, which are the same processes throughout"),
	), nil
}

func (f *faultScene) faults() []fault {
	gates := func(do func(m *crmManager)) func(context.Context) error {
		return func(context.Context) error {
			for _, m := range f.managers {
				do(m)
			}
			return nil
		}
	}
	heal := gates(func(m *crmManager) { m.gate.Heal() })
	var paused *crmManager
	return []fault{
		{
			// Kubernetes' own controllers wait longer after a longer outage before they try again, up to half a minute.
			name: "fault_api_restart", bound: 30, lasts: 2 * time.Second, blind: true,
			note:  "SIGKILL of the API server, started again 2 s later; timed from when it is ready",
			begin: func(context.Context) error { return f.cluster.KillAPIServer() },
			heal:  f.cluster.RestartAPIServer,
		}, {
			name: "fault_watch_expiry", bound: 30, lasts: 10 * time.Second,
			note:  "all watches end, and are answered with 410 or an event of it for 10 s",
			begin: gates(func(m *crmManager) { m.gate.ExpireWatches() }), heal: heal,
		}, {
			name: "fault_throttling", bound: 30, lasts: 20 * time.Second,
			note:  "429 with Retry-After: 1 to every request for 20 s, those of the lease included",
			begin: gates(func(m *crmManager) { m.gate.Throttle(time.Second) }), heal: heal,
		}, {
			name: "fault_network_loss", bound: 45, lasts: 30 * time.Second,
			note:  "nothing passes between both managers and the API server for 30 s, connections stay",
			begin: gates(func(m *crmManager) { m.gate.Lose() }), heal: heal,
		}, {
			name: "fault_leader_stopped", bound: 45, lasts: 20 * time.Second,
			note: "SIGSTOP of the leader for 20 s, then SIGCONT",
			begin: func(ctx context.Context) error {
				leader, _, err := f.leader(ctx)
				if err != nil {
					return err
				}
				paused = leader
				return leader.pause()
			},
			heal: func(context.Context) error { return paused.resume() },
		},
	}
}

// measure plays one fault. It also counts the children that were made anew although nobody had deleted them.
func (f *faultScene) measure(ctx context.Context, fault fault) (bench.Result, int, error) {
	if err := f.check(ctx); err != nil {
		return bench.Result{}, 0, fmt.Errorf("before the fault: %w", err)
	}
	before, err := f.children(ctx, f.kinds)
	if err != nil {
		return bench.Result{}, 0, err
	}
	f.touched = map[string]bool{}
	if fault.blind {
		// What is changed last is not done yet when it begins.
		if err := f.change(ctx); err != nil {
			return bench.Result{}, 0, err
		}
	}
	if err := fault.begin(ctx); err != nil {
		return bench.Result{}, 0, err
	}
	if !fault.blind {
		err = f.change(ctx)
	}
	select {
	case <-time.After(fault.lasts):
	case <-ctx.Done():
		return bench.Result{}, 0, context.Cause(ctx)
	}
	if !fault.blind && err == nil {
		err = f.change(ctx)
	}
	if err := errors.Join(err, fault.heal(ctx)); err != nil {
		return bench.Result{}, 0, err
	}
	began := time.Now()
	canary := make(chan time.Duration, 1)
	go func() { canary <- f.canary(ctx, fault.name, began) }()
	if fault.blind {
		// The managers may not have noticed yet that it is back.
		err = f.change(ctx)
	}
	at, problem := f.await(ctx)
	alone := <-canary
	if err != nil {
		return bench.Result{}, 0, err
	}
	note := fmt.Sprintf("%s, then until all classes are available and their objects as wanted. During it %d classes each were changed, created, deleted, and lost a Deployment or a Service by hand, of %d. A Deployment of no manager was rolled out %.1f s after the end of the fault",
		fault.note, changesPerFault*perChange, len(f.versions), alone.Seconds())
	if problem != nil {
		if ctx.Err() != nil {
			return bench.Result{}, 0, context.Cause(ctx)
		}
		note += "; NOT REACHED: " + problem.Error()
		say("  %v", problem)
	}
	after, err := f.children(ctx, f.kinds)
	if err != nil {
		return bench.Result{}, 0, err
	}
	lost := replaced(before, after, f.touched)
	tellProblems(lost)
	return bench.AtMost(fault.name, at.Sub(began).Seconds(), fault.bound, "s", note), len(lost), nil
}

// canary applies a Deployment that belongs to no manager, and gives how long after a moment it was rolled out: this is what
// Kubernetes itself needs, whatever the manager does. It is 0 when it was not rolled out.
func (f *faultScene) canary(ctx context.Context, name string, since time.Time) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, healPatience)
	defer cancel()
	name = strings.ReplaceAll(name, "_", "-")
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "canary", Image: image("canary", 1)}}
	if err := f.client.Create(ctx, d); err != nil {
		return 0
	}
	err := system.Poll(ctx, "the canary is rolled out", func(ctx context.Context) (bool, error) {
		err := f.client.Get(ctx, client.ObjectKeyFromObject(d), d)
		return err == nil && rolledOut(d), err
	})
	if err != nil {
		return 0
	}
	return time.Since(since)
}

// await waits until all is as wanted and stays so. It gives the moment from which on it was.
func (f *faultScene) await(ctx context.Context) (time.Time, error) {
	limit, cancel := context.WithTimeout(ctx, healPatience)
	defer cancel()
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	var since time.Time
	for {
		problem := f.check(limit)
		now := time.Now()
		switch {
		case problem != nil:
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= steadyFor:
			return since, nil
		}
		select {
		case <-ticker.C:
		case <-limit.Done():
			return now, problem
		}
	}
}

// change changes what is wanted: the image of some classes, some new ones, some gone; and takes children from others.
func (f *faultScene) change(ctx context.Context) error {
	for range perChange {
		if err := f.changeImage(ctx, f.pick()); err != nil {
			return err
		}
		object := benchClass(f.namespace, className(f.next))
		f.next++
		if err := f.client.Create(ctx, object); err != nil {
			return fmt.Errorf("create %s: %w", object.Name, err)
		}
		if err := f.remove(ctx, f.pick(), &appsv1.Deployment{}, "Deployment", "-fn-0"); err != nil {
			return err
		}
		if err := f.remove(ctx, f.pick(), &corev1.Service{}, "Service", "-fn-1"); err != nil {
			return err
		}
		gone := f.pick()
		if err := f.client.Delete(ctx, &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Name: gone, Namespace: f.namespace}}); err != nil {
			return fmt.Errorf("delete %s: %w", gone, err)
		}
		delete(f.versions, gone)
		// It counts from now on, so that none of the changes of this round touches it again.
		f.versions[object.Name] = 1
	}
	return nil
}

// pick is the next class to be changed, in turn.
func (f *faultScene) pick() string {
	names := slices.Sorted(maps.Keys(f.versions))
	f.turn++
	// A stride that is no divisor of anything keeps two changes of one round apart.
	return names[(f.turn*7)%len(names)]
}

func (f *faultScene) changeImage(ctx context.Context, name string) error {
	f.versions[name]++
	for {
		object := &v1alpha1.ClassRuntime{}
		if err := f.client.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, object); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		object.Spec.Functions[0].ProvisionConfig.ContainerImage = image("one", f.versions[name])
		err := f.client.Update(ctx, object)
		if err == nil || !apierrors.IsConflict(err) {
			return wrapped(err, "update "+name)
		}
	}
}

func wrapped(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// remove deletes a child by hand.
func (f *faultScene) remove(ctx context.Context, owner string, object client.Object, kind, suffix string) error {
	object.SetNamespace(f.namespace)
	object.SetName(owner + suffix)
	f.touched[kind+"/"+object.GetName()] = true
	err := f.client.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground))
	return wrapped(client.IgnoreNotFound(err), "delete "+object.GetName())
}

// check compares everything in the namespace with what is wanted.
func (f *faultScene) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	classes := &v1alpha1.ClassRuntimeList{}
	if err := f.client.List(ctx, classes, client.InNamespace(f.namespace)); err != nil {
		return fmt.Errorf("list classes: %w", err)
	}
	if problems := checkClasses(f.versions, classes.Items); len(problems) > 0 {
		return summed(problems)
	}
	deployments := &appsv1.DeploymentList{}
	if err := f.client.List(ctx, deployments, client.InNamespace(f.namespace)); err != nil {
		return fmt.Errorf("list deployments: %w", err)
	}
	if problems := checkDeployments(f.versions, deployments.Items); len(problems) > 0 {
		return summed(problems)
	}
	children, err := f.children(ctx, f.kinds)
	if err != nil {
		return err
	}
	return summed(compareShapes(slices.Sorted(maps.Keys(f.versions)), children))
}

// summed is one error of many, of which it names the first.
func summed(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	shown := problems[:min(len(problems), 3)]
	return fmt.Errorf("%d wrong: %s", len(problems), strings.Join(shown, "; "))
}

// checkClasses compares classes with the versions that are wanted.
func checkClasses(versions map[string]int, classes []v1alpha1.ClassRuntime) []string {
	var problems []string
	have := map[string]bool{}
	for i := range classes {
		c := &classes[i]
		have[c.Name] = true
		_, wanted := versions[c.Name]
		switch {
		case !wanted:
			problems = append(problems, c.Name+" is still there: "+c.Status.Message)
		case !available(c):
			problems = append(problems, fmt.Sprintf("%s is %s at generation %d of %d: %s", c.Name, c.Status.Phase, c.Status.ObservedGeneration, c.Generation, c.Status.Message))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		if !have[name] {
			problems = append(problems, name+" is missing")
		}
	}
	return problems
}

// checkDeployments compares what runs with the versions that are wanted.
func checkDeployments(versions map[string]int, deployments []appsv1.Deployment) []string {
	var problems []string
	for i := range deployments {
		d := &deployments[i]
		version, wanted := versions[d.Labels[ownerLabel]]
		if !wanted {
			problems = append(problems, d.Name+" belongs to no wanted class")
			continue
		}
		want := image("two", 1)
		if strings.HasSuffix(d.Name, "-fn-0") {
			want = image("one", version)
		}
		containers := d.Spec.Template.Spec.Containers
		switch {
		case len(containers) != 1 || containers[0].Image != want:
			problems = append(problems, fmt.Sprintf("%s does not run %s", d.Name, want))
		case !rolledOut(d):
			problems = append(problems, d.Name+" is not rolled out")
		}
	}
	return problems
}
