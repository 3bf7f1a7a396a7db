package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Part is a part of the system that a nemesis has for itself while it lasts.
type Part string

// Parts of the system.
const (
	// Network is what lies between the processes.
	Network Part = "network"
	// Nodes are the processes of the Package Manager: whether they run.
	Nodes Part = "nodes"
	// Disks are the file systems of the nodes.
	Disks Part = "disks"
	// Clocks are the wall clocks of the nodes.
	Clocks Part = "clocks"
	// Members are who belongs to the Raft cluster, and who leads it.
	Members Part = "members"
	// Snapshots are the files of the state that are being read.
	Snapshots Part = "snapshots"
	// Managers are the crm processes and agents of the clusters.
	Managers Part = "managers"
)

// Nemesis is one way to break a cluster.
type Nemesis interface {
	// Name is unique, and how the command line and the history call it.
	Name() string
	// About says in a sentence what it does.
	About() string
	// Parts it has for itself while it lasts.
	Parts() []Part
	// Available tells why this machine or this cluster cannot do it; nil when it can.
	Available(*Target) error
	// Choose decides, with the random numbers, what exactly is to be broken. It changes nothing. An error says why it cannot
	// be done at this moment.
	Choose(context.Context, *Target, *rand.Rand) (*Fault, error)
}

// Fault is something that can be broken and mended. Its functions are called in their order and once each.
type Fault struct {
	// Nodes are those that it is about, by name.
	Nodes []string
	// Text says what is done to them.
	Text string
	// Begin breaks it.
	Begin func(context.Context) error
	// During, if there is one, goes on breaking until its context ends.
	During func(context.Context) error
	// End mends it, also when Begin failed half way.
	End func(context.Context) error
}

// kind is a Nemesis as a row of the catalogue.
type kind struct {
	name, about string
	parts       []Part
	// available is nil for what can always be done.
	available func(*Target) error
	choose    func(context.Context, *Target, *rand.Rand) (*Fault, error)
}

func (k *kind) Name() string  { return k.name }
func (k *kind) About() string { return k.about }
func (k *kind) Parts() []Part { return k.parts }

func (k *kind) Available(t *Target) error {
	if k.available == nil {
		return nil
	}
	return k.available(t)
}

func (k *kind) Choose(ctx context.Context, t *Target, random *rand.Rand) (*Fault, error) {
	return k.choose(ctx, t, random)
}

// Named gives the nemeses of the catalogue with these names, all of them for none.
func Named(names ...string) ([]Nemesis, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Nemesis
	for _, name := range names {
		i := slices.IndexFunc(all, func(n Nemesis) bool { return n.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no nemesis %q; there are %s", name, strings.Join(Names(all), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// Names of nemeses, in their order.
func Names(of []Nemesis) []string {
	names := make([]string, 0, len(of))
	for _, n := range of {
		names = append(names, n.Name())
	}
	return names
}

// compatible reports whether two nemeses may overlap.
func compatible(a, b Nemesis) bool {
	return !slices.ContainsFunc(a.Parts(), func(p Part) bool { return slices.Contains(b.Parts(), p) })
}
