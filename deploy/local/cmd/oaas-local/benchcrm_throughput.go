package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"oaas.io/control-plane/bench"
)

const (
	// throughputBound is how much longer a manager may take than the same objects take without one.
	throughputBound = 1.3
	// memoryBound is how much memory a manager may ever have had resident, in MiB.
	memoryBound = 300
	// directManager is the field manager of what is applied without a crm.
	directManager = "bench"
)

// timedRun is one measurement: on the clock, and what the cluster and the manager used of the processors.
type timedRun struct {
	took, used time.Duration
}

// stopwatch begins a measurement and gives what ends it.
func stopwatch() (func(at time.Time) (timedRun, error), error) {
	began := time.Now()
	before, err := processorTime()
	return func(at time.Time) (timedRun, error) {
		after, err := processorTime()
		return timedRun{took: at.Sub(began), used: after - before}, err
	}, err
}

// timedRuns are those of one side.
type timedRuns []timedRun

func (t timedRuns) pick(of func(timedRun) time.Duration) []time.Duration {
	out := make([]time.Duration, len(t))
	for i, r := range t {
		out[i] = of(r)
	}
	return out
}

func (t timedRuns) took() []time.Duration {
	return t.pick(func(r timedRun) time.Duration { return r.took })
}

func (t timedRuns) used() []time.Duration {
	return t.pick(func(r timedRun) time.Duration { return r.used })
}

func median(all []time.Duration) float64 { return bench.Quantile(all, 0.5).Seconds() }

// measureThroughput compares the time from the creation of the classes until all are available with the time that the same
// children take when they are applied directly. Each run has a fresh cluster, the runs alternate, and the order within the
// pairs alternates too, so that neither side always comes first.
func (b *crmBench) measureThroughput(ctx context.Context) ([]bench.Result, error) {
	var managed, direct timedRuns
	var children map[string][]*unstructured.Unstructured
	runManaged := func() error {
		r, harvest, err := b.runManaged(ctx, children == nil)
		if children == nil {
			children = harvest
		}
		managed = append(managed, r)
		return err
	}
	runDirect := func() error {
		r, err := b.runDirect(ctx, children)
		direct = append(direct, r)
		return err
	}
	for pair := range b.options.pairs {
		order := []func() error{runManaged, runDirect}
		if pair%2 == 1 {
			slices.Reverse(order)
		}
		for _, run := range order {
			if err := run(); err != nil {
				return nil, err
			}
		}
		m, d := managed[pair], direct[pair]
		say("  pair %d of %d: %.1f s with a manager, %.1f s without; of the processors %.1f s and %.1f s",
			pair+1, b.options.pairs, m.took.Seconds(), d.took.Seconds(), m.used.Seconds(), d.used.Seconds())
	}
	count := b.options.classes
	withIt, without := median(managed.took()), median(direct.took())
	return []bench.Result{
		bench.AtMost("throughput_ratio", withIt/without, throughputBound, "", fmt.Sprintf(
			"median time with a manager by that without, %d pairs in fresh clusters in turn: with %s, without %s. Classes of two functions with one replica and no object store, so that a class is %s; %d at a time, %d requests per second and kind, burst %d, on both sides",
			b.options.pairs, seconds(managed.took()), seconds(direct.took()), kindsText(children), crmWorkers, crmQPS, crmBurst)),
		bench.Info("throughput_managed", withIt, "s", fmt.Sprintf("from the first creation of %d classes until all are available", count)),
		bench.Info("throughput_direct", without, "s", "from the first apply of the same children until all Deployments are rolled out"),
		bench.Info("throughput_classes_per_second", float64(count)/withIt, "1/s", ""),
		bench.Info("throughput_processor_ratio", median(managed.used())/median(direct.used()), "", fmt.Sprintf(
			"the same for the time of the processors that the cluster and the manager took, which other programs on the machine do not change: with %s, without %s",
			seconds(managed.used()), seconds(direct.used()))),
		bench.AtMost("memory_peak", b.memory, memoryBound, "MiB", fmt.Sprintf("highest VmHWM of the manager in %d runs with %d classes", b.options.pairs, count)),
	}, nil
}

func seconds(all []time.Duration) string {
	texts := make([]string, len(all))
	for i, d := range all {
		texts[i] = fmt.Sprintf("%.1f", d.Seconds())
	}
	return strings.Join(texts, ", ") + " s"
}

// kindsText says what one class has.
func kindsText(children map[string][]*unstructured.Unstructured) string {
	counts := map[string]int{}
	for _, objects := range children {
		for _, o := range objects {
			counts[o.GetKind()]++
		}
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%g %s", float64(counts[kind])/float64(len(children)), kind))
	}
	return strings.Join(parts, " and ")
}

// runManaged times the classes with a manager, and gives their children if they are wanted.
func (b *crmBench) runManaged(ctx context.Context, harvest bool) (timedRun, map[string][]*unstructured.Unstructured, error) {
	s, err := b.newStack(ctx, "managed")
	if err != nil {
		return timedRun{}, nil, err
	}
	defer s.stop() //nolint:contextcheck // cleaning up must not end with the context that was interrupted
	m, err := s.startManager(ctx, "crm", false)
	if err != nil {
		return timedRun{}, nil, err
	}
	r, err := s.populate(ctx)
	m.remember()
	if err != nil || !harvest {
		return r, nil, err
	}
	kinds, err := s.childKinds()
	if err != nil {
		return r, nil, err
	}
	children, err := s.harvest(ctx, kinds)
	if err == nil && len(children) != b.options.classes {
		err = fmt.Errorf("children of %d classes, want %d", len(children), b.options.classes)
	}
	return r, children, err
}

// runDirect times the same children without a manager.
func (b *crmBench) runDirect(ctx context.Context, children map[string][]*unstructured.Unstructured) (timedRun, error) {
	s, err := b.newStack(ctx, "direct")
	if err != nil {
		return timedRun{}, err
	}
	defer s.stop() //nolint:contextcheck // see above
	owners := slices.Sorted(maps.Keys(children))
	deployments := 0
	for _, objects := range children {
		for _, o := range objects {
			if o.GetKind() == "Deployment" {
				deployments++
			}
		}
	}
	f, err := s.follow(ctx, &appsv1.DeploymentList{}, deployments, rolledOut)
	if err != nil {
		return timedRun{}, err
	}
	defer f.end()
	stop, err := stopwatch()
	if err != nil {
		return timedRun{}, err
	}
	err = eachOf(ctx, len(owners), func(ctx context.Context, i int) error {
		for _, o := range children[owners[i]] {
			object := o.DeepCopy()
			object.SetNamespace(s.namespace)
			if err := s.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(directManager)); err != nil {
				return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
			}
		}
		return nil
	})
	if err != nil {
		return timedRun{}, err
	}
	at, err := f.wait(ctx)
	if err != nil {
		return timedRun{}, err
	}
	return stop(at)
}
