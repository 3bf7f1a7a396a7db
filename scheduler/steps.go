package scheduler

import (
	"slices"

	"oaas.io/control-plane/scheduler/solver"
)

// Action is one move on the way from what runs to what is planned.
type Action string

// The actions. Never are two of them done at a time.
const (
	// Join starts the deployment in a cluster. A cluster of a quorum has no vote yet:
	// it copies the state.
	Join Action = "join"
	// Promote gives a cluster its vote.
	Promote Action = "promote"
	// Leave ends the deployment in a cluster.
	Leave Action = "leave"
)

// Step is one move, and how available the deployment is after it.
type Step struct {
	Action  Action `json:"action"`
	Cluster string `json:"cluster"`
	// Achieved and Loss are complements, as in the plan. Both are absent while what
	// runs has clusters of which nothing is known any more.
	Achieved *float64 `json:"achieved,omitempty"`
	Loss     *float64 `json:"loss,omitempty"`
}

// steps orders the moves: a new cluster comes before an old one goes, so that there is
// no moment with fewer of them than before, and clusters that are gone leave first.
// There are none for a deployment that does not run yet.
func (o *selection) steps(c Changes) []Step {
	if len(c.Keep)+len(c.Remove) == 0 || len(c.Add)+len(c.Remove) == 0 {
		return nil
	}
	f := o.fleet
	var out []Step
	var running []int
	for _, name := range slices.Concat(c.Keep, c.Remove) {
		if i, known := f.byName[name]; known {
			running = append(running, i)
		} else {
			out = append(out, Step{Action: Leave, Cluster: name})
		}
	}
	after := func(a Action, name string) {
		step := Step{Action: a, Cluster: name}
		if len(running) > 0 {
			loss, up := o.scratch.chances(running, o.q.rule.Need(len(running)))
			step.Loss, step.Achieved = &loss, &up
		}
		out = append(out, step)
	}
	leaving := slices.DeleteFunc(slices.Clone(c.Remove), func(name string) bool { _, known := f.byName[name]; return !known })
	leave := func() {
		name := leaving[0]
		leaving = leaving[1:]
		running = slices.DeleteFunc(running, func(i int) bool { return i == f.byName[name] })
		after(Leave, name)
	}
	for _, name := range c.Add {
		if o.q.rule == solver.Majority {
			after(Join, name)
			running = append(running, f.byName[name])
			after(Promote, name)
		} else {
			running = append(running, f.byName[name])
			after(Join, name)
		}
		if len(leaving) > 0 {
			leave()
		}
	}
	for len(leaving) > 0 {
		leave()
	}
	return out
}

// lowest is the lowest availability on the way, and the step that leads to it; nil
// when no step has one that is known.
func lowest(steps []Step) *Step {
	var out *Step
	for i := range steps {
		if s := &steps[i]; s.Loss != nil && (out == nil || *s.Loss > *out.Loss) {
			out = s
		}
	}
	return out
}
