package lifecycle_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/crm/lifecycle"
)

// cluster is a small model of an API server, the controllers behind it and a
// class runtime in it. Its clock moves only when a step says so.
type cluster struct {
	now        time.Time
	generation int64
	finalizer  bool
	deleted    time.Time
	gone       bool
	invalid    bool
	parts      []*part
	odgm       *part
	refusal    *lifecycle.Fault // of every apply
	unlisted   bool
	stuck      bool // children do not go
	status     v1alpha1.ClassRuntimeStatus
}

// part is a workload with its Service.
type part struct {
	name    string
	wasm    bool
	content int64 // generation that its objects were applied for; 0 is not there
	unit    lifecycle.Unit
	going   bool
}

func (p *part) kinds() []string { return []string{"Service", "Deployment"} }

func newCluster(functions int, wasm func(int) bool, odgm bool) *cluster {
	c := &cluster{now: start, generation: 1}
	for i := range functions {
		c.parts = append(c.parts, &part{name: fmt.Sprintf("f%d", i), wasm: wasm(i)})
	}
	if odgm {
		c.odgm = &part{name: "odgm"}
	}
	return c
}

// workloads are the parts that have objects of their own.
func (c *cluster) workloads() []*part {
	var out []*part
	if c.odgm != nil {
		out = append(out, c.odgm)
	}
	for _, p := range c.parts {
		if !p.wasm {
			out = append(out, p)
		}
	}
	return out
}

func (c *cluster) observe() lifecycle.Observed {
	o := lifecycle.Observed{
		Generation: c.generation, Deleted: c.deleted, HasFinalizer: c.finalizer,
		Template: "dev", ChildrenListed: !c.unlisted, Previous: *c.status.DeepCopy(),
	}
	if c.invalid {
		o.RenderFault = &lifecycle.Fault{Reason: v1alpha1.ReasonInvalidSpec, Message: "bad"}
	} else {
		o.IntentHash = fmt.Sprint(c.generation)
	}
	for _, p := range c.parts {
		o.Functions = append(o.Functions, lifecycle.Function{Key: p.name, Service: p.name, Port: 80, URL: "http://" + p.name, WASM: p.wasm, Unit: p.unit})
	}
	for _, p := range c.workloads() {
		for _, kind := range p.kinds() {
			if p.content > 0 && !c.unlisted {
				child := lifecycle.Child{Kind: kind, Name: p.name}
				if p.going {
					child.Deleted = c.now
				}
				o.Children = append(o.Children, child)
			}
			if !c.invalid {
				o.Intents = append(o.Intents, c.intent(p, kind))
			}
		}
	}
	if c.odgm != nil {
		unit := c.odgm.unit
		o.ODGM = &unit
	}
	return o
}

func (c *cluster) intent(p *part, kind string) lifecycle.Intent {
	i := lifecycle.Intent{Kind: kind, Name: p.name, State: lifecycle.IntentDrifted}
	switch {
	case p.content == 0:
		i.State = lifecycle.IntentMissing
	case p.going:
		i.State = lifecycle.IntentTerminating
	case p.content == c.generation:
		i.State = lifecycle.IntentApplied
		return i
	}
	i.Fault = c.refusal
	return i
}

// do carries out an action as the controller would.
func (c *cluster) do(action lifecycle.Action) {
	switch action {
	case lifecycle.EnsureFinalizer:
		c.finalizer = true
	case lifecycle.Apply:
		for _, p := range c.workloads() {
			if c.refusal == nil && !p.going && p.content != c.generation {
				c.apply(p)
			}
		}
	case lifecycle.DeleteChildren:
		for _, p := range c.workloads() {
			p.going = p.content > 0
			p.unit.Workload.Terminating = p.going
		}
	case lifecycle.RemoveFinalizer:
		c.finalizer, c.gone = false, true
	case lifecycle.Prune:
	}
}

func (c *cluster) apply(p *part) {
	w := &p.unit.Workload
	if p.content == 0 {
		*w = lifecycle.Workload{Name: p.name, Exists: true, Desired: 2}
	}
	p.content = c.generation
	p.unit.Service.Exists = true
	w.Generation++
	w.Faults = nil
}

// roll is the Deployment controller and its pods taking one step.
func (c *cluster) roll(p *part) {
	w := &p.unit.Workload
	switch {
	case p.going && !c.stuck:
		*p = part{name: p.name, wasm: p.wasm, unit: lifecycle.Unit{Workload: lifecycle.Workload{Name: p.name}}}
	case !w.Exists || p.going:
	case w.ObservedGeneration < w.Generation:
		w.ObservedGeneration, w.Updated = w.Generation, 0
	case w.Updated < w.Desired:
		w.Updated++
		w.Total = max(w.Total, w.Updated)
	case w.Total > w.Updated:
		w.Total--
	case w.Available != w.Desired && len(w.Faults) == 0:
		w.Available = w.Desired
	}
	w.Available = min(w.Available, w.Total)
}

// event is something that happens to the cluster.
func (c *cluster) event(t *rapid.T) {
	part := func() *part {
		list := c.workloads()
		if len(list) == 0 {
			return &part{}
		}
		return list[rapid.IntRange(0, len(list)-1).Draw(t, "part")]
	}
	switch rapid.SampledFrom([]string{"roll", "roll", "roll", "wait", "wait", "change", "spoil", "refuse", "accept", "fault", "heal", "lose", "remove", "service", "list", "delete", "stick", "autoscale", "autoscale"}).Draw(t, "event") {
	case "roll":
		c.roll(part())
	case "wait":
		c.now = c.now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
	case "change":
		c.generation++
		c.invalid = false
	case "spoil":
		c.generation++
		c.invalid = true
	case "refuse":
		reason := rapid.SampledFrom([]v1alpha1.Reason{v1alpha1.ReasonApplyFailed, v1alpha1.ReasonApplyRejected, v1alpha1.ReasonFieldConflict, v1alpha1.ReasonQuotaExceeded}).Draw(t, "refusal")
		c.refusal = &lifecycle.Fault{Reason: reason, Message: "refused", Since: c.now}
	case "autoscale":
		// An autoscaler's change is none of the content: no generation counts it.
		if p := part(); p.unit.Workload.Exists {
			w := &p.unit.Workload
			w.Elastic, w.Least = true, int32(rapid.IntRange(1, 2).Draw(t, "least"))
			w.Desired = w.Least + int32(rapid.IntRange(0, 3).Draw(t, "more"))
			w.Total, w.Updated = min(w.Total, max(w.Desired, w.Updated)), min(w.Updated, w.Desired)
			w.Available = min(w.Available, w.Total)
		}
	case "accept":
		c.refusal = nil
	case "fault":
		reason := rapid.SampledFrom([]v1alpha1.Reason{v1alpha1.ReasonCrashLoop, v1alpha1.ReasonImagePullFailed, v1alpha1.ReasonInsufficientCapacity, v1alpha1.ReasonProbeFailed}).Draw(t, "fault")
		p := part()
		p.unit.Workload.Faults = []lifecycle.Fault{{Reason: reason, Message: "broken", Since: c.now, Created: c.now}}
		p.unit.Workload.Available = 0
	case "heal":
		part().unit.Workload.Faults = nil
	case "lose":
		part().unit.Workload.Available = 0
	case "remove":
		p := part()
		p.content, p.unit = 0, lifecycle.Unit{Workload: lifecycle.Workload{Name: p.name}}
		p.going = false
	case "service":
		p := part()
		p.unit.Service.Exists = false
		p.content = min(p.content, 0)
	case "list":
		c.unlisted = !c.unlisted
	case "delete":
		if rapid.IntRange(0, 3).Draw(t, "really") == 0 && c.deleted.IsZero() {
			c.deleted = c.now
			c.gone = !c.finalizer // the API server keeps nothing without one
		}
	case "stick":
		c.stuck = !c.stuck
	}
}

// reconcile is the controller's pass: act until nothing new is asked for, then
// store the last verdict.
func (c *cluster) reconcile(t *rapid.T) lifecycle.Verdict {
	tried := map[lifecycle.Action]bool{}
	for {
		v := c.evaluate(t)
		var next lifecycle.Action
		for _, a := range v.Actions {
			if !tried[a] {
				next = a
			}
		}
		if next == "" {
			c.checkStep(t, &v)
			c.status = v.Status
			return v
		}
		tried[next] = true
		if next == lifecycle.RemoveFinalizer && (c.unlisted || len(c.observe().Children) > 0) {
			t.Fatalf("the finalizer goes before the children are known to be gone")
		}
		if next != lifecycle.EnsureFinalizer && !c.finalizer {
			t.Fatalf("%s without a finalizer", next)
		}
		c.do(next)
		if c.gone {
			return v
		}
	}
}

func (c *cluster) evaluate(t *rapid.T) lifecycle.Verdict {
	o := c.observe()
	before := c.observe()
	v := lifecycle.Evaluate(o, lifecycle.Options{}, c.now)
	if diff := cmp.Diff(before, o); diff != "" {
		t.Fatalf("Evaluate changed what it was given:\n%s", diff)
	}
	c.checkVerdict(t, &o, &v)
	return v
}

// follows are the phases from which a stored phase may come.
var follows = map[v1alpha1.Phase][]v1alpha1.Phase{
	v1alpha1.PhaseAvailable: {v1alpha1.PhaseProgressing, v1alpha1.PhaseAvailable, v1alpha1.PhaseDegraded, v1alpha1.PhaseApplying},
	v1alpha1.PhasePending:   {"", v1alpha1.PhasePending, v1alpha1.PhaseApplying, v1alpha1.PhaseProgressing, v1alpha1.PhaseAvailable, v1alpha1.PhaseDegraded},
}

// checkStep checks a verdict against the stored status that it replaces.
func (c *cluster) checkStep(t *rapid.T, v *lifecycle.Verdict) {
	from, to := c.status.Phase, v.Status.Phase
	if allowed, limited := follows[to]; limited {
		found := false
		for _, p := range allowed {
			found = found || p == from
		}
		if !found {
			t.Fatalf("%q follows %q", to, from)
		}
	}
	if from == v1alpha1.PhaseDeleting && to != v1alpha1.PhaseDeleting {
		t.Fatalf("%q follows deleting", to)
	}
	recorded := c.status.Applied
	if to == v1alpha1.PhaseAvailable && (recorded == nil || recorded.Generation != c.generation) {
		t.Fatalf("available, but generation %d was not recorded as applied before: %+v", c.generation, recorded)
	}
}

// least is how many pods the workload must have to be available.
func least(w *lifecycle.Workload) int32 {
	if w.Elastic {
		return min(w.Least, w.Desired)
	}
	return w.Desired
}

// checkVerdict checks what has to hold for every verdict.
func (c *cluster) checkVerdict(t *rapid.T, o *lifecycle.Observed, v *lifecycle.Verdict) {
	s := &v.Status
	if s.Phase == v1alpha1.PhaseAvailable {
		for _, p := range c.workloads() {
			w := &p.unit.Workload
			if p.content != c.generation || p.going || w.Available < least(w) || w.ObservedGeneration != w.Generation || w.Updated < least(w) || !p.unit.Service.Exists {
				t.Fatalf("available with %s: %+v", p.name, p)
			}
		}
		for _, f := range s.Functions {
			if !*f.Ready {
				t.Fatalf("available with a function that is not ready: %+v", f)
			}
		}
	}
	available := v1alpha1.IsConditionTrue(s.Conditions, v1alpha1.ConditionAvailable)
	for _, p := range c.workloads() {
		if available && (p.unit.Workload.Available == 0 || !p.unit.Service.Exists || p.unit.Workload.Terminating) {
			t.Fatalf("Available is True although nobody can call %s", p.name)
		}
	}
	ready := v1alpha1.IsConditionTrue(s.Conditions, v1alpha1.ConditionReady)
	if ready != (s.Phase == v1alpha1.PhaseAvailable) || (ready && !available) {
		t.Fatalf("Ready %v, Available %v, phase %s", ready, available, s.Phase)
	}
	degraded := v1alpha1.FindCondition(s.Conditions, v1alpha1.ConditionDegraded)
	if degraded.Status == metav1.ConditionTrue {
		doc, known := degraded.Reason.Doc()
		if !known || !doc.Degrades || degraded.Message == "" {
			t.Fatalf("degraded for %q: %q", degraded.Reason, degraded.Message)
		}
		if s.Phase != v1alpha1.PhaseDegraded && s.Phase != v1alpha1.PhaseDeleting {
			t.Fatalf("degraded in phase %s", s.Phase)
		}
	}
	for _, condition := range s.Conditions {
		old := v1alpha1.FindCondition(o.Previous.Conditions, condition.Type)
		if old != nil && old.Status == condition.Status && !old.LastTransitionTime.Equal(condition.LastTransitionTime) {
			t.Fatalf("%s kept its status but not its time", condition.Type)
		}
		leftover := !c.deleted.IsZero() && condition.Type == v1alpha1.ConditionTelemetryConfigured
		if (condition.ObservedGeneration != c.generation && !leftover) || condition.Reason == "" {
			t.Fatalf("condition %+v of generation %d", condition, c.generation)
		}
	}
	if s.ObservedGeneration != c.generation || *s.ObservedGenerationCompat != c.generation || s.Message == "" {
		t.Fatalf("status %+v", s)
	}
	if v.RequeueAfter < 0 {
		t.Fatalf("requeue after %s", v.RequeueAfter)
	}
	quiet := ready || o.RenderFault != nil || (!c.deleted.IsZero() && (!c.finalizer || len(v.Actions) > 0))
	if !quiet && v.RequeueAfter == 0 && !v.Backoff && len(v.Actions) == 0 {
		t.Fatalf("nobody looks again: %s, %s", s.Phase, s.Message)
	}
}

func TestRandomHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		odgm := rapid.Bool().Draw(t, "odgm")
		wasm := rapid.SliceOfN(rapid.Bool(), 4, 4).Draw(t, "wasm")
		c := newCluster(rapid.IntRange(0, 4).Draw(t, "functions"), func(i int) bool { return odgm && wasm[i] }, odgm)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if c.event(t); c.gone {
				return
			}
			if c.reconcile(t); c.gone {
				return
			}
		}
		c.settle(t)
	})
}

// settle ends all trouble and checks that the class reaches its goal, and that
// nothing is written or asked for after that.
func (c *cluster) settle(t *rapid.T) {
	c.refusal, c.unlisted, c.stuck = nil, false, false
	if c.invalid {
		c.invalid = false
		c.generation++
	}
	for _, p := range c.workloads() {
		p.unit.Workload.Faults = nil
	}
	var last lifecycle.Verdict
	for round := 0; ; round++ {
		if round > 100 {
			t.Fatalf("no end: %s, %s", last.Status.Phase, last.Status.Message)
		}
		for _, p := range c.workloads() {
			c.roll(p)
		}
		last = c.reconcile(t)
		if c.gone {
			return
		}
		if last.Status.Phase == v1alpha1.PhaseAvailable {
			break
		}
		c.now = c.now.Add(max(last.RequeueAfter, time.Second))
	}
	for range 2 {
		c.now = c.now.Add(time.Hour)
		if v := c.reconcile(t); v.Changed || v.RequeueAfter != 0 || len(v.Actions) > 0 || len(v.Events) > 0 {
			t.Fatalf("restless: %+v", v)
		}
	}
}
