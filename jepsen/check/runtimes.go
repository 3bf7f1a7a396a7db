package check

import (
	"fmt"
	"maps"
	"slices"

	"oaas.io/control-plane/jepsen/history"
)

// Runtimes says whether each cluster that was looked at runs exactly what is wanted of it:
// one runtime for each unit, of the same deployment, fence and content, and none besides. A
// unit that is to be removed may still be there, if the control plane says so.
func Runtimes(desired []history.Unit, actual map[string][]history.Runtime) Verdict {
	f := newFindings("runtimes")
	wanted := map[string]map[string]history.Unit{}
	for _, u := range desired {
		if wanted[u.Cluster] == nil {
			wanted[u.Cluster] = map[string]history.Unit{}
		}
		if twin, ok := wanted[u.Cluster][u.ID]; ok {
			f.violation(Violation{What: "unit twice", Key: u.ID, Detail: fmt.Sprintf("of deployments %s and %s in %s", twin.Deployment, u.Deployment, u.Cluster)})
		}
		wanted[u.Cluster][u.ID] = u
		if _, looked := actual[u.Cluster]; !looked {
			f.count("units in clusters that were not looked at", 1)
		}
	}
	f.count("units", len(desired))
	for _, cluster := range slices.Sorted(maps.Keys(actual)) {
		f.count("clusters", 1)
		f.count("runtimes", len(actual[cluster]))
		checkCluster(f, cluster, wanted[cluster], actual[cluster])
	}
	return f.verdict()
}

func checkCluster(f *findings, cluster string, wanted map[string]history.Unit, actual []history.Runtime) {
	have := map[string]history.Runtime{}
	for _, r := range actual {
		key := cluster + "/" + r.Name
		if twin, ok := have[r.Name]; ok {
			f.violation(Violation{What: "runtime twice", Key: key, Detail: fmt.Sprintf("as %s and %s", twin.UID, r.UID)})
			continue
		}
		have[r.Name] = r
		u, ok := wanted[r.Name]
		switch {
		case !ok:
			f.violation(Violation{What: "runtime that nothing wants", Key: key, Detail: fmt.Sprintf("of deployment %s, fence %d", r.DeploymentUID, r.Fence)})
		case u.Tombstone:
			f.count("removals under way", 1)
		case r.DeploymentUID != u.DeploymentUID:
			f.violation(Violation{What: "runtime of another deployment", Key: key, Detail: fmt.Sprintf("of %s, wanted of %s", r.DeploymentUID, u.DeploymentUID)})
		case r.Fence != u.Fence || r.Hash != u.Hash:
			f.violation(Violation{
				What: "runtime of another content", Key: key,
				Detail: fmt.Sprintf("fence %d and content %s, wanted %d and %s", r.Fence, r.Hash, u.Fence, u.Hash),
			})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		u := wanted[id]
		if _, ok := have[id]; !ok && !u.Tombstone {
			f.violation(Violation{What: "missing runtime", Key: cluster + "/" + id, Detail: fmt.Sprintf("deployment %s, acknowledged: %t", u.Deployment, u.Acknowledged)})
		}
	}
}

// Fences says whether no cluster took an older change of a unit after a newer one, and
// whether one change always had one content.
func Fences(samples []history.Fenced) Verdict {
	f := newFindings("fences")
	last := map[string]history.Fenced{}
	content := map[string]string{}
	for _, s := range samples {
		f.count("changes", 1)
		key := s.Cluster + "/" + s.Unit
		if before, ok := last[key]; ok && (s.Epoch < before.Epoch || s.Epoch == before.Epoch && s.Fence < before.Fence) {
			f.violation(Violation{
				What: "older change after a newer one", Key: key,
				Detail: fmt.Sprintf("epoch %d fence %d after epoch %d fence %d", s.Epoch, s.Fence, before.Epoch, before.Fence),
			})
			continue
		}
		last[key] = s
		change := fmt.Sprintf("%s at epoch %d fence %d", key, s.Epoch, s.Fence)
		if hash, ok := content[change]; ok && hash != s.Hash {
			f.violation(Violation{What: "one change, two contents", Key: change, Detail: hash + " and " + s.Hash})
		}
		content[change] = s.Hash
	}
	f.count("units", len(last))
	return f.verdict()
}

// Promises says whether what was said to be available had reached its cluster by then: the
// unit that the answer names, with the change that was asked for or a later one. It needs
// changes that were noted when they happened.
func Promises(h history.History, final *history.Final) Verdict {
	f := newFindings("promises")
	all, err := entries(h, history.Lifecycle)
	if err != nil {
		return broken(f.name, err)
	}
	taken := map[string][]history.Fenced{}
	for _, s := range final.Fenced {
		taken[s.Unit] = append(taken[s.Unit], s)
	}
	for i := range all {
		e := &all[i]
		if e.Outcome != history.OK || e.request.Wait == 0 {
			continue
		}
		f.count("waits", 1)
		if !e.answer.Available || !final.Live {
			continue
		}
		f.count("available", 1)
		kept := slices.ContainsFunc(taken[e.answer.Unit], func(s history.Fenced) bool { return s.Fence >= e.Index && s.At <= e.Return })
		if !kept {
			f.violation(Violation{
				What: "available before it was there", Key: e.Key, Operations: []int{e.ID},
				Detail: fmt.Sprintf("%s said so, and unit %s had not taken the change at %d", e.Node, e.answer.Unit, e.Index),
			})
		}
	}
	return f.verdict()
}
