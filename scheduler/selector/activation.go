package selector

import (
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// activation gives the values of a cluster to a program, and makes only those it asks
// for.
type activation struct{ cluster *Cluster }

func (a activation) ResolveName(name string) (any, bool) {
	c := a.cluster
	switch name {
	case "cluster.name":
		return types.String(c.Name), true
	case "cluster.region":
		return types.String(c.Region), true
	case "cluster.zone":
		return types.String(c.Zone), true
	case "cluster.provider":
		return types.String(c.Provider), true
	case "cluster.labels":
		return labels{types.NewStringStringMap(types.DefaultTypeAdapter, c.Labels)}, true
	case "cluster.capabilities":
		return types.NewStringList(types.DefaultTypeAdapter, c.Capabilities), true
	case "cluster.cost":
		return types.Double(c.Cost), true
	case "cluster.availability":
		return types.Double(c.Availability), true
	case "cluster.free_cpu":
		return types.Double(c.FreeCPU), true
	case "cluster.free_memory":
		return types.Double(c.FreeMemory), true
	case "cluster.node_count":
		return types.Int(c.NodeCount), true
	default:
		return nil, false
	}
}

func (a activation) Parent() cel.Activation { return nil }

// labels is a map that is gone over in the order of its keys. The library's own goes
// over it as Go does, in another order each time, which an expression can see.
type labels struct{ traits.Mapper }

func (l labels) Iterator() traits.Iterator {
	var keys []string
	for it := l.Mapper.Iterator(); it.HasNext() == types.True; {
		if key, ok := it.Next().(types.String); ok {
			keys = append(keys, string(key))
		}
	}
	slices.Sort(keys)
	return types.NewStringList(types.DefaultTypeAdapter, keys).Iterator()
}

var (
	_ cel.Activation = activation{}
	_ traits.Mapper  = labels{}
	_ ref.Val        = labels{}
)
