package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

const (
	// imageRepository is what the functions run; its tags count the changes.
	imageRepository = "registry.example.com/bench/"
	// createPatience bounds the time in which the classes of a figure become available.
	createPatience = 10 * time.Minute
	progressEvery  = 10 * time.Second
)

// image is that of a function in a version.
func image(function string, version int) string {
	return imageRepository + function + ":" + strconv.Itoa(version)
}

func className(i int) string { return fmt.Sprintf("bench-%04d", i) }

// benchClass is a class of two container functions with one replica each. It has no object store: a class of two functions
// is two Deployments and two Services then, and nothing that depends on what else a release runs beside a class.
func benchClass(namespace, name string) *v1alpha1.ClassRuntime {
	object := &v1alpha1.ClassRuntime{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	object.Spec.PackageClassKey = "bench.Probe"
	object.Spec.Addons = []string{}
	for _, function := range []string{"one", "two"} {
		object.Spec.Functions = append(object.Spec.Functions, v1alpha1.FunctionSpec{
			FunctionKey:     "Probe." + function,
			ProvisionConfig: &v1alpha1.ProvisionConfig{ContainerImage: image(function, 1), MinScale: ptr.To(uint32(1))},
		})
	}
	return object
}

// eachOf does something with every index below count, as many at a time as a manager works on.
func eachOf(ctx context.Context, count int, do func(context.Context, int) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range crmWorkers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < count && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// createClasses creates the classes first to last-1.
func (s *crmStack) createClasses(ctx context.Context, first, last int) error {
	return eachOf(ctx, last-first, func(ctx context.Context, i int) error {
		object := benchClass(s.namespace, className(first+i))
		if err := s.client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s: %w", object.Name, err)
		}
		return nil
	})
}

// populate creates the classes of a figure and gives how long it took until all were available.
func (s *crmStack) populate(ctx context.Context) (timedRun, error) {
	count := s.bench.options.classes
	f, err := s.follow(ctx, &v1alpha1.ClassRuntimeList{}, count, available)
	if err != nil {
		return timedRun{}, err
	}
	defer f.end()
	stop, err := stopwatch()
	if err != nil {
		return timedRun{}, err
	}
	if err := s.createClasses(ctx, 0, count); err != nil {
		return timedRun{}, err
	}
	at, err := f.wait(ctx)
	if err != nil {
		return timedRun{}, err
	}
	return stop(at)
}

// available reports whether a class runs as it is wanted now.
func available(object client.Object) bool {
	c, ok := object.(*v1alpha1.ClassRuntime)
	return ok && c.DeletionTimestamp.IsZero() && c.Status.Phase == v1alpha1.PhaseAvailable && c.Status.ObservedGeneration == c.Generation &&
		v1alpha1.IsConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady)
}

// rolledOut is the same for a Deployment.
func rolledOut(object client.Object) bool {
	d, ok := object.(*appsv1.Deployment)
	if !ok || !d.DeletionTimestamp.IsZero() {
		return false
	}
	want := ptr.Deref(d.Spec.Replicas, 1)
	return d.Status.ObservedGeneration >= d.Generation && d.Status.Replicas == want && d.Status.UpdatedReplicas == want && d.Status.AvailableReplicas == want
}

// follower counts objects by a watch, which costs the cluster less than asking again and again. It reads all the time, and
// goes on where it was when the API server ends the watch, as it does with those who read too slowly for it.
type follower struct {
	watch watch.Interface
	again func(version string) (watch.Interface, error)
	what  string
	want  int
	ready func(client.Object) bool

	reading sync.WaitGroup
	// done is closed when all were ready at the same time, or the watch ended before.
	done chan struct{}

	mu        sync.Mutex
	stopped   bool
	seen, now map[string]bool
	at        time.Time
	err       error
}

// follow begins to watch objects of the namespace, of which there are none yet and want are to become ready.
func (s *crmStack) follow(ctx context.Context, list client.ObjectList, want int, ready func(client.Object) bool) (*follower, error) {
	if err := s.client.List(ctx, list, client.InNamespace(s.namespace)); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if meta.LenList(list) > 0 {
		return nil, fmt.Errorf("the namespace %s is not empty", s.namespace)
	}
	again := func(version string) (watch.Interface, error) {
		return s.client.Watch(ctx, list, &client.ListOptions{
			Namespace: s.namespace, Raw: &metav1.ListOptions{ResourceVersion: version},
		})
	}
	w, err := again(list.GetResourceVersion())
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	f := &follower{
		watch: w, again: again, what: fmt.Sprintf("%T", list), want: want, ready: ready,
		done: make(chan struct{}), seen: map[string]bool{}, now: map[string]bool{},
	}
	f.reading.Go(f.read)
	return f, nil
}

func (f *follower) read() {
	defer close(f.done)
	version := ""
	for {
		for e := range f.watch.ResultChan() {
			object, ok := e.Object.(client.Object)
			if !ok {
				f.finish(time.Time{}, fmt.Errorf("the watch of %s failed: %v", f.what, e.Object))
				return
			}
			version = object.GetResourceVersion()
			if f.note(object, e.Type) {
				f.finish(time.Now(), nil)
				return
			}
		}
		if !f.resume(version) {
			return
		}
	}
}

// resume watches from a version on, unless nobody wants to know any more.
func (f *follower) resume(version string) bool {
	if version == "" {
		f.finish(time.Time{}, fmt.Errorf("the watch of %s ended before it began", f.what))
		return false
	}
	w, err := f.again(version)
	if err != nil {
		f.finish(time.Time{}, fmt.Errorf("the watch of %s ended: %w", f.what, err))
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		w.Stop()
		return false
	}
	f.watch = w
	return true
}

// note reports whether all are ready.
func (f *follower) note(object client.Object, what watch.EventType) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[object.GetName()] = true
	delete(f.now, object.GetName())
	if what != watch.Deleted && f.ready(object) {
		f.now[object.GetName()] = true
	}
	return len(f.now) == f.want
}

func (f *follower) finish(at time.Time, err error) {
	f.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.err = at, err
}

func (f *follower) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.watch.Stop()
}

// counts are how many there are and how many of them are ready.
func (f *follower) counts() (seen, ready int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen), len(f.now)
}

// end stops watching.
func (f *follower) end() {
	f.stop()
	f.reading.Wait()
}

// wait returns when all were ready at the same time, with the moment at which that was seen.
func (f *follower) wait(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.done:
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.at, f.err
		case <-ticker.C:
			seen, ready := f.counts()
			say("  %d of %d are there, %d ready", seen, f.want, ready)
		case <-ctx.Done():
			_, ready := f.counts()
			return time.Time{}, fmt.Errorf("%d of %d %s are ready: %w", ready, f.want, f.what, context.Cause(ctx))
		}
	}
}
