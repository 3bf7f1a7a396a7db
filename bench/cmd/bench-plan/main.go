package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/bench/crosscheck"
	"oaas.io/control-plane/scheduler"
	"oaas.io/control-plane/scheduler/solver"
)

func main() {
	out := flag.String("out", "", "write the results as JSON to this file")
	deployments := flag.Int("deployments", 100_000, "deployments that are planned again after the loss of a cluster")
	flag.Parse()
	if err := run(os.Stdout, *out, *deployments); err != nil {
		fmt.Fprintln(os.Stderr, "bench-plan:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, out string, deployments int) error {
	var results []bench.Result
	for _, measure := range []func() ([]bench.Result, error){
		func() ([]bench.Result, error) { return single(100, 1000, time.Millisecond) },
		func() ([]bench.Result, error) { return single(1000, 300, 10*time.Millisecond) },
		func() ([]bench.Result, error) { return single(10_000, 50, 100*time.Millisecond) },
		func() ([]bench.Result, error) {
			return replan("replan_after_loss", fleet(1000), deployments, 10*time.Second)
		},
		func() ([]bench.Result, error) {
			return replan("replan_after_loss_equal_clusters", equals(1000), deployments, 10*time.Second)
		},
		allSets, originalRule,
	} {
		more, err := measure()
		if err != nil {
			return err
		}
		for _, r := range more {
			fmt.Fprintf(os.Stderr, "%s %g %s (%s)\n", r.Name, r.Value, r.Unit, r.Bound)
		}
		results = append(results, more...)
	}
	if err := bench.WriteTable(w, results); err != nil {
		return err
	}
	if out != "" {
		if err := bench.WriteJSON(out, results); err != nil {
			return err
		}
	}
	if failed := bench.Failed(results); failed > 0 {
		return fmt.Errorf("%d of %d figures miss their bound", failed, len(results))
	}
	return nil
}

const target = 0.99999

// fleet draws clusters in regions of three zones each.
func fleet(n int) scheduler.Snapshot {
	r := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // it is to be the same every time
	regions := max(3, n/25)
	var out scheduler.Snapshot
	for i := range n {
		up := 1 - 0.02*r.Float64()
		out.Clusters = append(out.Clusters, scheduler.Cluster{
			Name: fmt.Sprintf("cluster-%05d", i), Region: fmt.Sprint("region-", r.IntN(regions)), Zone: fmt.Sprint(r.IntN(3)),
			Health: scheduler.Healthy, Availability: &up,
		})
	}
	return out
}

// wishes are the targets of the deployments in turn; the first is that of single plans.
var wishes = []float64{target, 0.999, 0.9999, 0.99}

func spec(i int) scheduler.Spec {
	wish := wishes[i%len(wishes)]
	return scheduler.Spec{Key: fmt.Sprintf("shop.Class-%06d", i), AvailabilityTarget: &wish}
}

// single plans one deployment after the other, on one processor.
func single(clusters, plans int, bound time.Duration) ([]bench.Result, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	snap := fleet(clusters)
	var took []time.Duration
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range plans {
		began := time.Now()
		p, err := scheduler.Decide(snap, spec(i*len(wishes)))
		took = append(took, time.Since(began))
		if err != nil {
			return nil, err
		}
		if !p.TargetMet {
			return nil, fmt.Errorf("%d clusters: %s", clusters, p.Summary)
		}
	}
	runtime.ReadMemStats(&after)
	name := fmt.Sprintf("plan_%d_clusters", clusters)
	return []bench.Result{
		bench.AtMost(name+"_p99", ms(bench.Quantile(took, 0.99)), ms(bound), "ms", fmt.Sprintf("%d plans for %v, a majority, one processor; clusters in regions of three zones", plans, target)),
		bench.Info(name+"_p50", ms(bench.Quantile(took, 0.5)), "ms", ""),
		bench.Info(name+"_allocated", float64(after.TotalAlloc-before.TotalAlloc)/float64(plans)/1024, "KiB", "per plan"),
	}, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// equals is a fleet of clusters that only the lot tells apart, so that the deployments
// run in all of them and every one is planned by itself.
func equals(n int) scheduler.Snapshot {
	out := fleet(n)
	for i := range out.Clusters {
		up := 0.995
		out.Clusters[i].Availability = &up
	}
	return out
}

// replan plans all deployments, takes a cluster away and plans them again.
func replan(name string, snap scheduler.Snapshot, deployments int, bound time.Duration) ([]bench.Result, error) {
	placed := make([][]string, deployments)
	if err := planAll(snap, placed); err != nil {
		return nil, err
	}
	lost := placed[0][0]
	affected := 0
	for _, in := range placed {
		for _, name := range in {
			if name == lost {
				affected++
			}
		}
	}
	less := scheduler.Snapshot{}
	for _, c := range snap.Clusters {
		if c.Name != lost {
			less.Clusters = append(less.Clusters, c)
		}
	}
	began := time.Now()
	if err := planAll(less, placed); err != nil {
		return nil, err
	}
	return []bench.Result{bench.AtMost(name, time.Since(began).Seconds(), bound.Seconds(), "s",
		fmt.Sprintf("all %d deployments on %d clusters after the loss of one, in which %d ran; %d processors", deployments, len(snap.Clusters), affected, runtime.GOMAXPROCS(0)))}, nil
}

// planAll plans every deployment from where it is, with all processors.
func planAll(snap scheduler.Snapshot, placed [][]string) error {
	fleet, err := scheduler.Prepare(snap.Clusters, nil)
	if err != nil {
		return err
	}
	var next atomic.Int64
	workers := runtime.GOMAXPROCS(0)
	failures := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(placed) {
					return
				}
				p, err := fleet.Decide(spec(i), placed[i])
				if err != nil {
					failures[w] = err
					return
				}
				placed[i] = p.Clusters
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// allSets compares the solver with what looking at all sets gives.
func allSets() ([]bench.Result, error) {
	const instances = 20_000
	mismatches, met := 0, 0
	for seed := range uint64(instances) {
		p, err := crosscheck.Instance(seed)
		if err != nil {
			return nil, err
		}
		got, err := solver.Solve(p)
		if err != nil {
			return nil, err
		}
		want := crosscheck.Optimum(&p)
		if want.Met {
			met++
		}
		if err := crosscheck.Compare(&p, got, want); err != nil {
			mismatches++
			fmt.Fprintf(os.Stderr, "seed %d: %v\n", seed, err)
		}
	}
	return []bench.Result{bench.Exactly("mismatches_with_all_sets", float64(mismatches), 0, "",
		fmt.Sprintf("of %d random problems with domains, factors, prices, limits and spreads, %d of which can be met", instances, met))}, nil
}

// originalRule counts how the rule of the original system does.
func originalRule() ([]bench.Result, error) {
	const fleets = 20_000
	var over, surplus, below, unreachable, even int
	for seed := range uint64(fleets) {
		ups, goal := crosscheck.Fleet(seed)
		v, err := crosscheck.Judge(ups, goal)
		if err != nil {
			return nil, fmt.Errorf("seed %d: %w", seed, err)
		}
		if v.Over > 0 {
			over, surplus = over+1, surplus+v.Over
		}
		for count, is := range map[*int]bool{&below: v.Below, &unreachable: v.Unreachable, &even: v.Even} {
			if is {
				*count++
			}
		}
	}
	return []bench.Result{
		bench.Info("original_rule_too_many", float64(over), "", fmt.Sprintf("of %d random fleets of 3 to 12 independent clusters for 2 to 5 nines; %d clusters in all", fleets, surplus)),
		bench.Info("original_rule_below_target", float64(below), "", "misses a target that can be met"),
		bench.Info("original_rule_unreachable", float64(unreachable), "", "deploys in silence below a target that cannot be met"),
		bench.Info("original_rule_even", float64(even), "", "takes a cluster that adds nothing"),
	}, nil
}
