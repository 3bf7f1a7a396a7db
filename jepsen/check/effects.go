package check

import (
	"fmt"
	"maps"
	"slices"

	"oaas.io/control-plane/jepsen/history"
)

// asked are the actions that only a request brings about.
var asked = map[string]bool{
	"package.create": true, "package.update": true, "package.delete": true,
	"deployment.create": true, "deployment.update": true, "deployment.delete": true,
}

// OneEffect says whether requests that were sent several times under one key took effect
// once and were answered alike. How often they did is what the audit log of final and the
// followers of the stream of changes tell; what is in the end tells whether something that
// was deleted came back.
func OneEffect(h history.History, final *history.Final) Verdict {
	f := newFindings("idempotency")
	all, err := entries(h, history.Idempotent)
	if err != nil {
		return broken(f.name, err)
	}
	effects, err := effectsOf(h)
	if err != nil {
		return broken(f.name, err)
	}
	var oldest uint64
	if final != nil {
		for _, e := range final.Effects {
			effects[e.Index] = e
		}
		if len(final.Effects) > 0 {
			oldest = final.Effects[0].Index
		}
	}
	counts := map[string][]history.Effect{}
	for _, index := range slices.Sorted(maps.Keys(effects)) {
		// The control plane also does things by itself, such as planning anew.
		if e := effects[index]; asked[e.Action] {
			counts[e.Object] = append(counts[e.Object], e)
		}
	}
	for _, o := range objectsOf(all) {
		f.count("objects", 1)
		s := storyOf(o)
		for _, r := range s.requests {
			f.count("requests", 1)
			f.count("attempts", len(r.attempts))
			r.check(f, o.key)
		}
		s.checkEffects(f, counts[o.key], oldest)
		if final != nil {
			s.checkEnd(f, final)
		}
	}
	return f.verdict()
}

// story is what was asked about one object, request by request.
type story struct {
	*object
	requests []*repeated
}

// repeated is a request with its attempts.
type repeated struct {
	key, kind string
	attempts  []*entry
	ok, open  int
}

func storyOf(o *object) *story {
	s := &story{object: o}
	byKey := map[string]*repeated{}
	for i := range o.ops {
		e := &o.ops[i]
		r := byKey[e.request.IdempotencyKey]
		if r == nil {
			r = &repeated{key: e.request.IdempotencyKey, kind: e.Kind}
			byKey[r.key] = r
			s.requests = append(s.requests, r)
		}
		r.attempts = append(r.attempts, e)
		switch e.Outcome {
		case history.OK:
			r.ok++
		case history.Unknown:
			r.open++
		case history.Failed:
		}
	}
	return s
}

// check compares the answers of a request.
func (r *repeated) check(f *findings, key string) {
	var first, own *entry
	for _, e := range r.attempts {
		if e.Outcome != history.OK {
			continue
		}
		if first == nil || e.Return < first.Return {
			first = e
		}
		if !e.answer.Replayed {
			if own != nil {
				f.violation(Violation{
					What: "carried out twice", Key: key, Operations: []int{own.ID, e.ID},
					Detail: fmt.Sprintf("two answers to %s are none that was remembered: at %d and %d", r.key, own.Index, e.Index),
				})
			}
			own = e
		}
	}
	if first == nil {
		return
	}
	for _, e := range r.attempts {
		switch {
		case e.Outcome == history.OK && (e.answer.Status != first.answer.Status || e.answer.Body != first.answer.Body):
			f.violation(Violation{
				What: "different answers", Key: key, Operations: []int{first.ID, e.ID},
				Detail: fmt.Sprintf("%s was answered %d %s and %d %s", r.key, first.answer.Status, first.answer.Body, e.answer.Status, e.answer.Body),
			})
		case e.answer.Refused() && e.Call > first.Return:
			f.violation(Violation{
				What: "different answers", Key: key, Operations: []int{first.ID, e.ID},
				Detail: fmt.Sprintf("%s was answered %d and then refused: %s", r.key, first.answer.Status, e.answer.Code),
			})
		}
	}
}

// checkEffects compares how often something was done with how often it was asked for.
// Entries from before oldest may have been forgotten.
func (s *story) checkEffects(f *findings, effects []history.Effect, oldest uint64) {
	least, most := 0, 0
	complete := oldest > 0
	var ids []int
	for _, r := range s.requests {
		if r.ok > 0 {
			least++
		}
		if r.ok+r.open > 0 {
			most++
		}
		for _, e := range r.attempts {
			ids = append(ids, e.ID)
			if e.Command && e.Index < oldest {
				complete = false
			}
		}
		// Where a request took effect is not known when only later attempts were answered.
		if r.ok > 0 && !slices.ContainsFunc(r.attempts, func(e *entry) bool { return e.Command }) {
			complete = complete && oldest <= s.earliest()
		}
	}
	f.count("effects", len(effects))
	told := []string{}
	for _, e := range effects {
		told = append(told, fmt.Sprintf("%s at %d", e.Action, e.Index))
	}
	switch {
	case len(effects) > most:
		f.violation(Violation{
			What: "more effects than requests", Key: s.key, Operations: ids,
			Detail: fmt.Sprintf("%d requests at most took effect, and there were %d: %v", most, len(effects), told),
		})
	case complete && len(effects) < least:
		f.violation(Violation{
			What: "acknowledged request without effect", Key: s.key, Operations: ids,
			Detail: fmt.Sprintf("%d requests were acknowledged, and there were %d effects: %v", least, len(effects), told),
		})
	case !complete:
		f.count("objects whose past is forgotten in part", 1)
	}
}

// earliest is an index below which nothing of the story can be: 0 when there is none.
func (s *story) earliest() uint64 {
	var lowest uint64
	for i := range s.ops {
		if e := &s.ops[i]; e.Command && (lowest == 0 || e.Index < lowest) {
			lowest = e.Index
		}
	}
	return lowest
}

// checkEnd looks for what should be there in the end.
func (s *story) checkEnd(f *findings, final *history.Final) {
	var made, gone *entry
	for _, r := range s.requests {
		for _, e := range r.attempts {
			switch {
			case e.Outcome == history.Failed:
			case r.ok == 0:
				return // nobody knows
			case e.Outcome == history.OK && r.kind == history.Delete:
				gone = e
			case e.Outcome == history.OK && made == nil:
				made = e
			}
		}
	}
	if made == nil {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(final.Nodes)) {
		state := final.Nodes[node]
		if state.Error != "" {
			continue
		}
		has := func(o history.Object) bool { return o.Key == s.key }
		exists := slices.ContainsFunc(state.Packages, has) || slices.ContainsFunc(state.Deployments, has)
		switch {
		case exists && gone != nil:
			f.violation(Violation{What: "deleted object came back", Key: s.key, Operations: []int{gone.ID}, Detail: node + " has it"})
		case !exists && gone == nil:
			f.violation(Violation{What: "acknowledged create lost", Key: s.key, Operations: []int{made.ID}, Detail: node + " does not have it"})
		}
	}
}
