package check

import (
	"fmt"
	"maps"
	"slices"

	"oaas.io/control-plane/jepsen/history"
)

// Set says whether the deployments that were created once and perhaps deleted once are in
// the end what was acknowledged, on every node: what was created is there, what was deleted
// is not, and what nobody knows is the same everywhere and, once seen, stays.
func Set(h history.History, final *history.Final) Verdict {
	f := newFindings("set")
	all, err := entries(h, history.Set)
	if err != nil {
		return broken(f.name, err)
	}
	lists := map[string]map[string]string{}
	for node, state := range final.Nodes {
		if state.Error != "" {
			f.count("nodes that could not be read", 1)
			continue
		}
		values := map[string]string{}
		for _, d := range state.Deployments {
			values[d.Key] = d.Value
		}
		lists[node] = values
	}
	if len(lists) == 0 {
		f.violation(Violation{What: "nothing observed", Detail: "no node told its state in the end"})
	}
	for _, o := range objectsOf(all) {
		m := memberOf(o)
		f.count("deployments", 1)
		if m.open {
			f.count("of unknown outcome", 1)
		}
		m.check(f, lists)
	}
	return f.verdict()
}

// member is what is known of one deployment of the set.
type member struct {
	*object
	created, deleted *entry
	// seen is the last read that showed it.
	seen *entry
	// failed says that no creation of it can have taken effect, open that nobody knows
	// whether the creation or the deletion did.
	failed, open bool
}

func memberOf(o *object) *member {
	m := &member{object: o, failed: true}
	for i := range o.ops {
		e := &o.ops[i]
		switch {
		case e.Kind == history.Read:
			if e.Outcome == history.OK && e.answer.Exists {
				m.seen = e
			}
		case e.Outcome == history.Failed:
		case e.Kind == history.Delete:
			m.deleted = e
			m.open = m.open || e.Outcome == history.Unknown
		default:
			m.created, m.failed = e, false
			m.open = m.open || e.Outcome == history.Unknown
		}
	}
	return m
}

func (m *member) check(f *findings, lists map[string]map[string]string) {
	// Known to have existed, and by which operation.
	proof := m.created
	if m.created != nil && m.created.Outcome == history.Unknown {
		proof = m.seen
	}
	present := 0
	for _, node := range slices.Sorted(maps.Keys(lists)) {
		value, exists := lists[node][m.key]
		if exists {
			present++
		}
		switch {
		case exists && m.failed:
			f.violation(Violation{What: "failed create took effect", Key: m.key, Operations: m.ids(), Detail: node + " has it"})
		case exists && m.deleted != nil && m.deleted.Outcome == history.OK:
			f.violation(Violation{What: "deleted object came back", Key: m.key, Operations: []int{m.deleted.ID}, Detail: node + " has it"})
		case !exists && proof != nil && m.deleted == nil:
			f.violation(Violation{What: "acknowledged create lost", Key: m.key, Operations: []int{proof.ID}, Detail: node + " does not have it"})
		case exists && m.created != nil && value != m.created.request.Value:
			f.violation(Violation{
				What: "other content", Key: m.key, Operations: []int{m.created.ID},
				Detail: fmt.Sprintf("%s has %q, not %q", node, value, m.created.request.Value),
			})
		}
	}
	if present != 0 && present != len(lists) {
		f.violation(Violation{What: "nodes disagree", Key: m.key, Operations: m.ids(), Detail: fmt.Sprintf("%d of %d nodes have it", present, len(lists))})
	}
}

func (m *member) ids() []int {
	var out []int
	for i := range m.ops {
		out = append(out, m.ops[i].ID)
	}
	return out
}
