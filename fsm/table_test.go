package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oaas.io/control-plane/proto/pmpb"
)

// Whatever is written to a clone, every table that was sealed before keeps its
// rows in all orders: readers hold them for as long as they like.
func TestTableKeepsWhatItsReadersSee(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type moment struct {
			table *table[*pmpb.Unit]
			rows  map[string]*pmpb.Unit
		}
		current := newStore().units()
		rows := map[string]*pmpb.Unit{}
		var sealed []moment
		change := rapid.Custom(func(rt *rapid.T) *pmpb.Unit {
			return &pmpb.Unit{
				Id:            fmt.Sprint(rapid.IntRange(0, 150).Draw(rt, "id")),
				Env:           rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "env"),
				DeploymentUid: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "uid"),
				ModifyIndex:   rapid.Uint64Range(1, 5).Draw(rt, "index"),
				Tombstone:     rapid.Bool().Draw(rt, "removed"),
			}
		})
		for range rapid.IntRange(1, 12).Draw(rt, "batches") {
			next := current.clone().(*table[*pmpb.Unit])
			for _, u := range rapid.SliceOfN(change, 0, 120).Draw(rt, "changes") {
				var old any
				var err error
				if u.GetTombstone() {
					old, err = next.remove(u)
					checkOld(rt, old, rows[u.GetId()])
					delete(rows, u.GetId())
				} else {
					old, err = next.put(u)
					checkOld(rt, old, rows[u.GetId()])
					rows[u.GetId()] = u
				}
				if err != nil {
					rt.Fatal(err)
				}
			}
			next.seal()
			sealed = append(sealed, moment{next, maps.Clone(rows)})
			current = next
		}
		for i, m := range sealed {
			for order, key := range []compare[*pmpb.Unit]{
				func(a, b *pmpb.Unit) int { return strings.Compare(a.GetId(), b.GetId()) },
				func(a, b *pmpb.Unit) int {
					return cmp.Or(strings.Compare(a.GetEnv(), b.GetEnv()), cmp.Compare(a.GetModifyIndex(), b.GetModifyIndex()), strings.Compare(a.GetId(), b.GetId()))
				},
				func(a, b *pmpb.Unit) int {
					return cmp.Or(strings.Compare(a.GetDeploymentUid(), b.GetDeploymentUid()), strings.Compare(a.GetEnv(), b.GetEnv()), strings.Compare(a.GetId(), b.GetId()))
				},
			} {
				want := slices.SortedFunc(maps.Values(m.rows), key)
				got := slices.Collect(m.table.from(order, &pmpb.Unit{}))
				if !slices.Equal(got, want) {
					rt.Fatalf("order %d of moment %d of %d has %d rows, want %d, or they differ", order, i, len(sealed), len(got), len(want))
				}
			}
		}
	})
}

func checkOld(rt *rapid.T, old any, want *pmpb.Unit) {
	if have, _ := old.(*pmpb.Unit); have != want || (old == nil) != (want == nil) {
		rt.Fatalf("replaced %v, want %v", old, want)
	}
}

func TestTableRefusesRowsOfOtherKinds(t *testing.T) {
	units := newStore().units().clone()
	if _, err := units.put(&pmpb.Cluster{Name: "c"}); err == nil {
		t.Error("a cluster was put among the units")
	}
	if _, err := units.remove(&pmpb.Cluster{Name: "c"}); err == nil {
		t.Error("a cluster was removed from the units")
	}
}

// Whoever watches names that do not exist must not fill the memory.
func TestWatchesOfWhatDoesNotExistLeaveNothingBehind(t *testing.T) {
	s, err := NewState()
	if err != nil {
		t.Fatal(err)
	}
	view := s.Snapshot()
	for i := range 1000 {
		name := fmt.Sprint(i)
		view.WatchDeployment(name)
		view.WatchUnitsByDeployment(name)
		view.WatchUnitsByEnv(name)
		view.WatchUnit(name)
		view.WatchCluster(name)
		view.WatchPackage(name)
	}
	var kept []string
	for about := range s.publisher.waiting {
		kept = append(kept, fmt.Sprintf("%s %d %q", tables[about.table], about.scope, about.key))
	}
	slices.Sort(kept)
	if diff := gocmp.Diff([]string{`clusters 0 ""`, `deployments 0 ""`, `packages 0 ""`, `units 0 ""`}, kept); diff != "" {
		t.Errorf("channels that are kept (-want +got):\n%s", diff)
	}
}
