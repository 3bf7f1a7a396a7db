package variant

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Variant is a build of the programs in which one guard is taken out.
type Variant struct {
	// Name of the variant, and of its diff.
	Name string
	// Guard is what is taken out, as a word of the version: "+without-" and this.
	Guard string
	// Removed says how the programs differ.
	Removed string
	// Breaks is the promise that they do not keep any more, by its number in the
	// architecture.
	Breaks string
	// Schedule says how that comes about: which faults have to meet which requests.
	Schedule string
	// Nemeses and Workloads are the names of those that bring it about.
	Nemeses   []string
	Workloads []string
	// Tests are those of the guarded packages that fail without the guard: small directed
	// scenarios.
	Tests []Test
	// Checks are those whose objection counts; that another one objects says nothing about
	// the guard.
	Checks []string
	// Nodes is how many nodes the harness needs, 0 for as many as it takes by itself.
	Nodes int
	// TimeBox is how long the harness may need to find it.
	TimeBox time.Duration
	// Agents says that the agents inside the harness have the guard too: the harness is then
	// one of the programs that are built.
	Agents bool
}

// Healed is the name, among Variant.Checks, of what a run finds without any history: that
// nodes do not come back.
const Healed = "healed"

// Test names tests of a package, as go test does.
type Test struct{ Package, Run string }

// Version is the version that a program of the variant reports, base being that of the
// whole program.
func (v Variant) Version(base string) string { return base + "+without-" + v.Guard }

// All gives the variants in the order of their names.
func All() []Variant {
	out := slices.Clone(catalogue)
	slices.SortFunc(out, func(a, b Variant) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Find gives the variant of that name.
func Find(name string) (Variant, error) {
	for _, v := range catalogue {
		if v.Name == name {
			return v, nil
		}
	}
	return Variant{}, fmt.Errorf("variant: there is no %q", name)
}
