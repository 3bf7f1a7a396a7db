package availability

import (
	"cmp"
	"fmt"
	"slices"
)

// Domain is a group of clusters that can go down together: a provider, a region in
// it, a zone in that.
type Domain struct {
	Name string
	// Parent is the name of the domain around this one; empty for none.
	Parent string
	// Up is the probability that the domain is up while its parent is.
	Up float64
}

// Leaf is a cluster as the model sees it.
type Leaf struct {
	Name string
	// Domain is the innermost domain that the cluster is in; empty for none.
	Domain string
	// Up is the probability that the cluster is up while its domain and its factors
	// are.
	Up float64
	// Factors are the indexes of what it depends on beside its domains.
	Factors []int
}

// Factor is something that clusters of different domains share: a minor version of
// Kubernetes, a name server. Clusters that have it are down while it is.
type Factor struct {
	Name string
	Up   float64
}

// MaxFactors bounds the factors of a tree: an evaluation takes time in proportion to
// 2 to the power of those that its clusters have.
const MaxFactors = 4

// ModelError says what is wrong with the description of a fleet.
type ModelError struct {
	// Subject is the domain, cluster or factor.
	Subject string
	Problem string
}

func (e *ModelError) Error() string {
	return fmt.Sprintf("availability model: %s: %s", e.Subject, e.Problem)
}

// Tree is the failure domains of a fleet. It is immutable and safe for concurrent
// use; its clusters go by their index in the leaves that it was made of.
type Tree struct {
	domains []domain
	leaves  []leaf
	factors []Factor
}

type domain struct {
	name   string
	parent int // -1: the world
	up     float64
	// reach is the probability that the domain and all around it are up.
	reach float64
	// first and last bound the visiting numbers of the domain and all within it.
	first, last int
}

type leaf struct {
	domain  int // -1: the world
	up      float64
	factors uint8
	// visit orders leaves so that those of a domain are together.
	visit int
}

// NewTree checks the description and prepares it for evaluations. Errors are of the
// type *ModelError: an unknown or repeated name, domains around each other, a number
// that is no probability, too many factors.
func NewTree(domains []Domain, leaves []Leaf, factors []Factor) (*Tree, error) {
	if len(factors) > MaxFactors {
		return nil, &ModelError{Subject: "shared factors", Problem: fmt.Sprintf("there are %d, at most %d can be calculated with", len(factors), MaxFactors)}
	}
	for _, f := range factors {
		if !Valid(f.Up) {
			return nil, &ModelError{Subject: "factor " + f.Name, Problem: notWithin(f.Up)}
		}
	}
	t := &Tree{factors: slices.Clone(factors)}
	index, err := t.addDomains(domains)
	if err != nil {
		return nil, err
	}
	if err := t.addLeaves(leaves, index); err != nil {
		return nil, err
	}
	t.number()
	return t, nil
}

func notWithin(p float64) string { return fmt.Sprintf("%v is not within 0..1", p) }

// addDomains puts parents before their children, whatever order they come in.
func (t *Tree) addDomains(domains []Domain) (map[string]int, error) {
	given := make(map[string]*Domain, len(domains))
	for i := range domains {
		d := &domains[i]
		switch {
		case d.Name == "":
			return nil, &ModelError{Subject: "a domain", Problem: "it has no name"}
		case given[d.Name] != nil:
			return nil, &ModelError{Subject: "domain " + d.Name, Problem: "it is described twice"}
		case !Valid(d.Up):
			return nil, &ModelError{Subject: "domain " + d.Name, Problem: notWithin(d.Up)}
		}
		given[d.Name] = d
	}
	index := make(map[string]int, len(domains))
	for i := range domains {
		// The way to the outermost domain that is not there yet; a domain cannot come
		// twice on it unless domains are around each other.
		var way []*Domain
		for name := domains[i].Name; name != ""; {
			if _, there := index[name]; there {
				break
			}
			d := given[name]
			if d == nil {
				return nil, &ModelError{Subject: "domain " + way[len(way)-1].Name, Problem: fmt.Sprintf("the domain %q around it is not described", name)}
			}
			if len(way) == len(domains) {
				return nil, &ModelError{Subject: "domain " + domains[i].Name, Problem: "it is within itself"}
			}
			way, name = append(way, d), d.Parent
		}
		for _, d := range slices.Backward(way) {
			parent, reach := -1, d.Up
			if d.Parent != "" {
				parent = index[d.Parent]
				reach *= t.domains[parent].reach
			}
			index[d.Name] = len(t.domains)
			t.domains = append(t.domains, domain{name: d.Name, parent: parent, up: d.Up, reach: reach})
		}
	}
	return index, nil
}

func (t *Tree) addLeaves(leaves []Leaf, domains map[string]int) error {
	t.leaves = make([]leaf, len(leaves))
	seen := make(map[string]bool, len(leaves))
	for i := range leaves {
		l := &leaves[i]
		in, known := domains[l.Domain]
		switch {
		case l.Name == "":
			return &ModelError{Subject: "a cluster", Problem: "it has no name"}
		case seen[l.Name]:
			return &ModelError{Subject: "cluster " + l.Name, Problem: "it is described twice"}
		case !Valid(l.Up):
			return &ModelError{Subject: "cluster " + l.Name, Problem: notWithin(l.Up)}
		case l.Domain == "":
			in = -1
		case !known:
			return &ModelError{Subject: "cluster " + l.Name, Problem: fmt.Sprintf("its domain %q is not described", l.Domain)}
		}
		seen[l.Name] = true
		t.leaves[i] = leaf{domain: in, up: l.Up}
		for _, f := range l.Factors {
			if f < 0 || f >= len(t.factors) {
				return &ModelError{Subject: "cluster " + l.Name, Problem: fmt.Sprintf("it has the factor %d of %d", f, len(t.factors))}
			}
			t.leaves[i].factors |= 1 << f
		}
	}
	return nil
}

// number visits the tree depth first, so that what is within a domain has numbers
// that follow each other.
func (t *Tree) number() {
	inner := make([][]int, len(t.domains)+1) // by parent+1
	clusters := make([][]int, len(t.domains)+1)
	for d := range t.domains {
		inner[t.domains[d].parent+1] = append(inner[t.domains[d].parent+1], d)
	}
	for l := range t.leaves {
		clusters[t.leaves[l].domain+1] = append(clusters[t.leaves[l].domain+1], l)
	}
	next := 0
	var visit func(place int)
	visit = func(place int) {
		for _, l := range clusters[place] {
			t.leaves[l].visit = next
			next++
		}
		for _, d := range inner[place] {
			t.domains[d].first = next
			next++
			visit(d + 1)
			t.domains[d].last = next - 1
		}
	}
	visit(0)
}

// Leaves is the number of clusters.
func (t *Tree) Leaves() int { return len(t.leaves) }

// Domains is the number of domains.
func (t *Tree) Domains() int { return len(t.domains) }

// DomainName gives the name of a domain.
func (t *Tree) DomainName(d int) string { return t.domains[d].name }

// Parent is the domain around a domain, -1 for none.
func (t *Tree) Parent(d int) int { return t.domains[d].parent }

// DomainOf is the innermost domain of a cluster, -1 for none.
func (t *Tree) DomainOf(leaf int) int { return t.leaves[leaf].domain }

// Reach is the probability that a domain and all around it are up.
func (t *Tree) Reach(d int) float64 { return t.domains[d].reach }

// Up is the probability that a cluster is up while all that it depends on is.
func (t *Tree) Up(leaf int) float64 { return t.leaves[leaf].up }

// Marginal is the probability that a cluster is up.
func (t *Tree) Marginal(leaf int) float64 {
	l := &t.leaves[leaf]
	p := l.up
	if l.domain >= 0 {
		p *= t.domains[l.domain].reach
	}
	for i, f := range t.factors {
		if l.factors&(1<<i) != 0 {
			p *= f.Up
		}
	}
	return p
}

// DomainUp is the probability that a domain is up while the one around it is.
func (t *Tree) DomainUp(d int) float64 { return t.domains[d].up }

// CompareKind orders clusters by their domain and their factors. Of clusters that
// are equal in it, one that is up more often is the better one in every set.
func (t *Tree) CompareKind(a, b int) int {
	return cmp.Or(cmp.Compare(t.leaves[a].domain, t.leaves[b].domain), cmp.Compare(t.leaves[a].factors, t.leaves[b].factors))
}

func (t *Tree) within(l *leaf, d int) bool {
	return d < 0 || l.visit >= t.domains[d].first && l.visit <= t.domains[d].last
}
