package check

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"oaas.io/control-plane/jepsen/history"
)

// LinearizableOptions bound a check.
type LinearizableOptions struct {
	// Workloads whose objects are checked; none is Register, Set, Sessions and Lifecycle.
	Workloads []string
	// Timeout of one key; default 10 s.
	Timeout time.Duration
	// Budget of all keys; what is not reached within it is undecided. Default 5 min.
	Budget time.Duration
	// UndecidedShare is which share of the keys may stay undecided in a verdict that is OK.
	UndecidedShare float64
}

func (o *LinearizableOptions) setDefaults() {
	if len(o.Workloads) == 0 {
		o.Workloads = []string{history.Register, history.Set, history.Sessions, history.Lifecycle}
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Budget == 0 {
		o.Budget = 5 * time.Minute
	}
}

// Picture shows why the operations of a key are not linearizable.
type Picture struct {
	Key   string
	model porcupine.Model
	info  porcupine.LinearizationInfo
}

// WriteTo writes it as a page of HTML.
func (p Picture) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	if err := porcupine.Visualize(p.model, p.info, c); err != nil {
		return c.n, fmt.Errorf("check: picture of %s: %w", p.Key, err)
	}
	return c.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// maxPictures bounds what is kept of them.
const maxPictures = 5

// object is all that was done to one key.
type object struct {
	workload, key string
	ops           []entry
	// versions says that only users make versions of it: it is a package.
	versions bool
}

// objectsOf groups operations by workload and key, in order.
func objectsOf(all []entry) []*object {
	byKey := map[string]*object{}
	for _, e := range all {
		if strings.HasPrefix(e.Key, sharedPrefix) {
			continue // what the workloads have in common, and write before they begin
		}
		id := e.Workload + "/" + e.Key
		if byKey[id] == nil {
			byKey[id] = &object{workload: e.Workload, key: e.Key, versions: e.Workload == history.Register || e.Workload == history.Sessions}
		}
		byKey[id].ops = append(byKey[id].ops, e)
	}
	out := []*object{}
	for _, id := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[id])
	}
	return out
}

// sharedPrefix marks keys of what all workloads share.
const sharedPrefix = "package/"

// Linearizable says whether each object behaved as if there was one copy of it, on which
// every operation took effect at one moment between its call and its answer, in the order
// of the log. Refusals count as observations. Reads that asked for less are not looked at.
func Linearizable(h history.History, o LinearizableOptions) Verdict {
	o.setDefaults()
	all, err := entries(h, o.Workloads...)
	if err != nil {
		return broken("linearizable", err)
	}
	f := newFindings("linearizable")
	objects := objectsOf(all)
	results := judgeAll(objects, o)
	var undecided []string
	var pictures []Picture
	for i, r := range results {
		f.count("operations", r.steps)
		f.count("of unknown outcome", r.open)
		for _, v := range r.violations {
			f.violation(v)
		}
		if r.undecided {
			undecided = append(undecided, objects[i].key)
		}
		if r.picture != nil && len(pictures) < maxPictures {
			pictures = append(pictures, *r.picture)
		}
	}
	f.count("keys", len(objects))
	f.count("undecided", len(undecided))
	v := f.verdict()
	v.Undecided, v.Pictures = undecided, pictures
	if float64(len(undecided)) > o.UndecidedShare*float64(len(objects)) {
		v.OK = false
	}
	return v
}

// judged is what became of one object.
type judged struct {
	steps, open int
	violations  []Violation
	undecided   bool
	picture     *Picture
}

// judgeAll judges objects on all processors.
func judgeAll(objects []*object, o LinearizableOptions) []judged {
	out := make([]judged, len(objects))
	next := make(chan int)
	end := time.Now().Add(o.Budget)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := range next {
				out[i] = judge(objects[i], min(o.Timeout, time.Until(end)))
			}
		})
	}
	for i := range objects {
		next <- i
	}
	close(next)
	all.Wait()
	return out
}

func judge(o *object, timeout time.Duration) judged {
	var out judged
	steps, violations := stepsOf(o)
	out.violations = violations
	out.steps = len(steps) - 1 // without the end
	for _, s := range steps {
		if in := s.Input.(*step); !in.known || in.open {
			out.open++
		}
	}
	if timeout <= 0 {
		out.undecided = true
		return out
	}
	strict := register{versions: o.versions, log: true}
	result, info := porcupine.CheckOperationsVerbose(strict.model(), steps, timeout)
	switch result {
	case porcupine.Ok:
		return out
	case porcupine.Unknown:
		out.undecided = true
		return out
	case porcupine.Illegal:
	}
	what, model := "not linearizable", strict
	if loose := (register{versions: o.versions}); porcupine.CheckOperationsTimeout(loose.model(), steps, timeout) == porcupine.Ok {
		what = "not in the order of the log"
	} else {
		model = loose
	}
	v := Violation{What: what, Key: o.key}
	if s := culprit(model, steps, timeout); s != nil {
		v.Operations, v.Detail = []int{s.id}, s.String()+" contradicts what was answered before it"
	}
	out.violations = append(out.violations, v)
	out.picture = &Picture{Key: o.key, model: strict.model(), info: info}
	return out
}

// culprit finds the first answer that cannot be explained: without what was asked after it,
// the history is wrong, and without it as well, it is not.
func culprit(r register, steps []porcupine.Operation, timeout time.Duration) *step {
	ended := []porcupine.Operation{}
	for _, s := range steps {
		if in := s.Input.(*step); in.known && !in.open && in.kind != theEnd {
			ended = append(ended, s)
		}
	}
	slices.SortStableFunc(ended, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	deadline := time.Now().Add(timeout)
	low, high := 0, len(ended)-1
	for low < high {
		mid := (low + high) / 2
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		switch porcupine.CheckOperationsTimeout(r.model(), upTo(steps, ended[mid].Return), left) {
		case porcupine.Illegal:
			high = mid
		case porcupine.Ok:
			low = mid + 1
		default:
			return nil
		}
	}
	if len(ended) == 0 {
		return nil
	}
	return ended[low].Input.(*step)
}

// upTo is a history as it was known at some time: what had not been answered by then is open.
func upTo(steps []porcupine.Operation, at int64) []porcupine.Operation {
	var out []porcupine.Operation
	for _, s := range steps {
		in := s.Input.(*step)
		switch {
		case s.Call > at || in.kind == theEnd:
		case s.Return <= at:
			out = append(out, s)
		case in.kind != history.Read && in.refused == "":
			unanswered := *in
			unanswered.known, unanswered.index = false, 0
			s.Input = &unanswered
			out = append(out, s)
		}
	}
	return closed(out, at)
}

// closed ends a history at a time. What took effect, whenever that was, did so by then; what
// nobody knows of has until after the end not to.
func closed(steps []porcupine.Operation, at int64) []porcupine.Operation {
	for i := range steps {
		switch in := steps[i].Input.(*step); {
		case !in.known:
			steps[i].Return = at + 3
		case in.open:
			steps[i].Return = at
		}
	}
	return append(steps, porcupine.Operation{Input: &step{kind: theEnd, known: true}, Call: at + 1, Return: at + 2})
}

// stepsOf makes the model's operations of an object's, and tells what is wrong with them at
// first sight.
func stepsOf(o *object) ([]porcupine.Operation, []Violation) {
	writes, violations := writesOf(o)
	var end time.Duration
	seen := map[string]bool{}
	for i := range o.ops {
		e := &o.ops[i]
		end = max(end, e.Return, e.Call)
		if e.Kind == history.Read && e.Outcome == history.OK {
			seen[e.answer.Value] = true
		}
	}
	var out []porcupine.Operation
	var steps []*step
	rows := map[int]int{} // a picture has one for each process
	for i := range o.ops {
		e := &o.ops[i]
		s := stepOf(e)
		if s == nil {
			continue
		}
		if w := writes[s.value]; w != nil && !s.known && seen[s.value] {
			// Somebody has seen it: it did take effect, and where its version says.
			s.known, s.open = true, true
			s.version, s.index = w.version, w.version
		}
		if !o.versions && e.Kind == history.Read {
			s.version = 0
		}
		if _, known := rows[e.Process]; !known {
			rows[e.Process] = len(rows)
		}
		steps = append(steps, s)
		out = append(out, porcupine.Operation{ClientId: rows[e.Process], Input: s, Call: int64(e.Call), Return: int64(e.Return)})
	}
	alike(steps)
	return closed(out, int64(end)), violations
}

// stepOf is nil for an operation that says nothing of a linearizable register.
func stepOf(e *entry) *step {
	s := &step{
		id: e.ID, kind: e.Kind, known: true, value: e.request.Value, expect: e.request.Version, node: e.Node,
	}
	switch {
	case e.Kind == history.Read:
		if e.Outcome != history.OK || e.request.Mode != "" && e.request.Mode != history.Linearizable {
			return nil
		}
		s.exists, s.value, s.version, s.index = e.answer.Exists, e.answer.Value, e.answer.Version, e.Index
	case e.Outcome == history.Failed && !e.answer.Refused():
		return nil
	case e.Outcome == history.Failed:
		s.refused = e.answer.Code
	case e.Outcome == history.Unknown:
		s.known = false
	case e.Command:
		s.index = e.Index
		s.version = e.answer.Version
	}
	return s
}
