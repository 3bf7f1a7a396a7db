package registry

import (
	"slices"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/oaaspb"
)

// podSettings carries what a deployment says of its pods to a cluster. It is nil when
// that is nothing, so that the content of a unit which has always said nothing, and its
// hash, stay what they were.
func podSettings(p *model.PodSettings) *oaaspb.PodSettings {
	if p == nil || saysNothing(p) {
		return nil
	}
	out := &oaaspb.PodSettings{
		ServiceAccount:   p.ServiceAccount,
		PullSecrets:      p.PullSecrets,
		NodeSelector:     p.NodeSelector,
		Security:         string(p.Security),
		CpuRequest:       p.CPURequest,
		MemoryRequest:    p.MemoryRequest,
		Spread:           p.Spread,
		DisruptionBudget: p.DisruptionBudget,
		NetworkPolicy:    string(p.NetworkPolicy),
		PriorityClass:    p.PriorityClass,
		ImagePullPolicy:  string(p.ImagePullPolicy),
	}
	for _, t := range p.Tolerations {
		out.Tolerations = append(out.Tolerations, &oaaspb.PodToleration{
			Key: t.Key, Operator: string(t.Operator), Value: t.Value, Effect: string(t.Effect), TolerationSeconds: t.TolerationSeconds,
		})
	}
	return out
}

func saysNothing(p *model.PodSettings) bool {
	text, err := p.MarshalJSON()
	return err == nil && string(text) == "{}"
}

// checkPodsLevel refuses pod settings while there are servers that cannot read them: they
// would drop them, and their state would differ.
func checkPodsLevel(snap *fsm.Snapshot, given ...*model.PodSettings) error {
	some := slices.ContainsFunc(given, func(p *model.PodSettings) bool { return p != nil })
	if level := snap.FeatureLevel(); some && level < fsm.PodsFrom {
		return errorf(FailedPrecondition, "pods needs feature level %d, the cluster is at %d: upgrade all servers first", fsm.PodsFrom, level)
	}
	return nil
}

// podsOfClasses are the pod settings that a package gives its classes.
func podsOfClasses(pkg *model.OPackage) []*model.PodSettings {
	out := make([]*model.PodSettings, len(pkg.Classes))
	for i := range pkg.Classes {
		out[i] = pkg.Classes[i].Pods
	}
	return out
}
