package check

import (
	"fmt"
	"maps"
	"slices"

	"oaas.io/control-plane/jepsen/history"
)

// Leaders says whether each term had one leader, as all answers and looks tell.
func Leaders(h history.History) Verdict {
	f := newFindings("leaders")
	type claim struct {
		leader string
		op     int
	}
	terms := map[uint64]map[string]claim{}
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Leader == "" || op.Term == 0 {
			continue
		}
		f.count("claims", 1)
		if terms[op.Term] == nil {
			terms[op.Term] = map[string]claim{}
		}
		if _, ok := terms[op.Term][op.Leader]; !ok {
			terms[op.Term][op.Leader] = claim{op.Leader, op.ID}
		}
	}
	for _, term := range slices.Sorted(maps.Keys(terms)) {
		f.count("terms", 1)
		if len(terms[term]) < 2 {
			continue
		}
		v := Violation{What: "two leaders in a term", Key: fmt.Sprintf("term %d", term)}
		for _, leader := range slices.Sorted(maps.Keys(terms[term])) {
			v.Operations = append(v.Operations, terms[term][leader].op)
			v.Detail += leader + " "
		}
		f.violation(v)
	}
	return f.verdict()
}

// Replicas says whether all nodes hold the same in the end: the same rows, where they were
// read at the same index, and the same history.
func Replicas(final *history.Final) Verdict {
	f := newFindings("replicas")
	hashes := map[uint64]map[string]string{}
	rows := map[uint64]map[string]string{}
	note := func(of map[uint64]map[string]string, index uint64, who, what string) {
		if of[index] == nil {
			of[index] = map[string]string{}
		}
		of[index][who] = what
	}
	for _, node := range slices.Sorted(maps.Keys(final.Nodes)) {
		s := final.Nodes[node]
		f.count("nodes", 1)
		if s.Error != "" {
			f.violation(Violation{What: "node could not be read", Key: node, Detail: s.Error})
			continue
		}
		note(rows, s.Index, node, fmt.Sprint(s.Packages, s.Deployments, s.Units, s.Deletions))
		if s.Hash != "" {
			note(hashes, s.HashIndex, node, s.Hash)
		}
		if len(s.Peers) == 0 {
			f.violation(Violation{What: "histories could not be compared", Key: node, Detail: "there was no command that all servers remember"})
		}
		for id, hash := range s.Peers {
			note(hashes, s.HashIndex, id, hash)
		}
	}
	differ(f, "different histories", hashes)
	differ(f, "different states", rows)
	return f.verdict()
}

// differ looks for an index at which not all said the same.
func differ(f *findings, what string, said map[uint64]map[string]string) {
	for _, index := range slices.Sorted(maps.Keys(said)) {
		groups := map[string][]string{}
		for _, who := range slices.Sorted(maps.Keys(said[index])) {
			groups[said[index][who]] = append(groups[said[index][who]], who)
		}
		f.count("comparisons", len(said[index])-1)
		if len(groups) > 1 {
			f.violation(Violation{What: what, Key: fmt.Sprintf("index %d", index), Detail: fmt.Sprint(slices.SortedFunc(maps.Values(groups), slices.Compare))})
		}
	}
}

// faults are the codes that no request of a workload can deserve.
var faults = map[string]bool{
	"internal": true, "malformed-json": true, "schema-mismatch": true, "unprocessable": true, "unsupported-media-type": true,
	"method-not-allowed": true, "idempotency-mismatch": true, "too-large": true, "not-implemented": true, "not-configured": true,
}

// Answers says whether every refusal was one that a well-formed request can meet, and said
// what it is.
func Answers(h history.History) Verdict {
	f := newFindings("answers")
	all, err := entries(h, history.Register, history.Set, history.Sessions, history.Lifecycle, history.Idempotent)
	if err != nil {
		return broken(f.name, err)
	}
	for i := range all {
		e := &all[i]
		f.count(string(e.Outcome), 1)
		a := e.answer
		switch {
		case a.Status == 0 || a.Status < 300:
		case a.Code == "":
			f.violation(Violation{What: "refusal without a code", Key: e.Key, Operations: []int{e.ID}, Detail: fmt.Sprintf("%s answered %d: %s", e.Node, a.Status, e.Error)})
		case faults[a.Code]:
			f.violation(Violation{What: "fault of the server", Key: e.Key, Operations: []int{e.ID}, Detail: fmt.Sprintf("%s answered %d: %s", e.Node, a.Status, e.Error)})
		}
	}
	return f.verdict()
}
