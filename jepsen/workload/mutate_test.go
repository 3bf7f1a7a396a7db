package workload_test

import (
	"slices"
	"testing"
	"time"

	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
)

// seeThrough falsifies a history that was found to be right, in each of the ways in which a
// control plane could have been wrong, and fails unless the checkers see it.
func seeThrough(t *testing.T, h history.History, final history.Final) {
	t.Helper()
	for name, tc := range map[string]struct {
		falsify func(h *history.History, f *history.Final) bool
		verdict string
	}{
		"a read that shows nothing":            {falsifyRead(history.Register, func(a *history.Answer) { *a = history.Answer{Mode: a.Mode} }), "linearizable"},
		"a read that shows what nobody wrote":  {falsifyRead(history.Register, func(a *history.Answer) { a.Value = "other" }), "log order"},
		"a version that nobody made":           {falsifyRead(history.Register, func(a *history.Answer) { a.Version++ }), "linearizable"},
		"a refusal that was none":              {refuseSeen, "linearizable"},
		"a deployment that is lost":            {loseDeployment, "set"},
		"a change that a follower is not told": {skipChange, "watch"},
		"a request that is carried out twice":  {repeatEffect, "idempotency"},
		"an answer from before its index":      {answerEarly, "sessions"},
		"a runtime too many":                   {addRuntime, "runtimes"},
		"an old change that a cluster takes":   {takeOld, "fences"},
		"another leader in the term":           {addLeader, "leaders"},
		"a node with another history":          {otherHash, "replicas"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong, end := cloneHistory(h), cloneFinal(final)
			if !tc.falsify(&wrong, &end) {
				t.Fatal("the history has no place for it")
			}
			for _, v := range check.All(wrong, &end, check.Options{Linearizable: check.LinearizableOptions{Timeout: 3 * time.Second}}).Verdicts {
				if v.Name == tc.verdict && len(v.Violations) > 0 {
					return
				}
			}
			t.Errorf("the verdict %q does not see it", tc.verdict)
		})
	}
}

func cloneHistory(h history.History) history.History {
	return history.History{Operations: slices.Clone(h.Operations), Events: slices.Clone(h.Events)}
}

func cloneFinal(f history.Final) history.Final {
	f.Effects, f.Fenced = slices.Clone(f.Effects), slices.Clone(f.Fenced)
	nodes, clusters := map[string]history.NodeState{}, map[string][]history.Runtime{}
	for name, s := range f.Nodes {
		s.Deployments = slices.Clone(s.Deployments)
		nodes[name] = s
	}
	for name, list := range f.Clusters {
		clusters[name] = slices.Clone(list)
	}
	f.Nodes, f.Clusters = nodes, clusters
	return f
}

// later finds the first operation from the middle on that is meant: the beginning has
// little to contradict.
func later(h *history.History, is func(op *history.Operation) bool) *history.Operation {
	for i := len(h.Operations) / 4; i < len(h.Operations); i++ {
		if op := &h.Operations[i]; is(op) {
			return op
		}
	}
	return nil
}

func falsifyRead(workload string, change func(*history.Answer)) func(*history.History, *history.Final) bool {
	return func(h *history.History, _ *history.Final) bool {
		op := later(h, func(op *history.Operation) bool {
			a, ok := op.Output.(history.Answer)
			return op.Workload == workload && op.Kind == history.Read && op.Outcome == history.OK && ok && a.Exists && settledBefore(h, op)
		})
		if op == nil {
			return false
		}
		a := op.Output.(history.Answer)
		change(&a)
		op.Output = a
		return true
	}
}

// settledBefore says that the value which a read shows was acknowledged before it was asked
// for, and that nobody deleted its object without knowing.
func settledBefore(h *history.History, read *history.Operation) bool {
	shown := read.Output.(history.Answer).Value
	settled := false
	for i := range h.Operations {
		op := &h.Operations[i]
		if op.Workload != read.Workload || op.Key != read.Key {
			continue
		}
		if op.Kind == history.Delete && op.Call < read.Return && op.Return > read.Call || op.Outcome == history.Unknown {
			return false
		}
		in, ok := op.Input.(history.Request)
		settled = settled || ok && in.Value == shown && op.Command && op.Return < read.Call
	}
	return settled
}

// refuseSeen makes a refusal of a write that a read has shown.
func refuseSeen(h *history.History, _ *history.Final) bool {
	shown := map[string]bool{}
	for i := range h.Operations {
		if a, ok := h.Operations[i].Output.(history.Answer); ok && h.Operations[i].Kind == history.Read {
			shown[a.Value] = true
		}
	}
	op := later(h, func(op *history.Operation) bool {
		in, ok := op.Input.(history.Request)
		return op.Workload == history.Register && op.Command && ok && in.Value != "" && shown[in.Value]
	})
	if op == nil {
		return false
	}
	op.Outcome, op.Command, op.Output = history.Failed, false, history.Answer{Status: 412, Code: history.RefusedPrecondition}
	return true
}

func loseDeployment(h *history.History, f *history.Final) bool {
	deleted := map[string]bool{}
	for i := range h.Operations {
		if h.Operations[i].Kind == history.Delete {
			deleted[h.Operations[i].Key] = true
		}
	}
	op := later(h, func(op *history.Operation) bool {
		return op.Workload == history.Set && op.Kind == history.Create && op.Command && !deleted[op.Key]
	})
	if op == nil {
		return false
	}
	for name, s := range f.Nodes {
		s.Deployments = slices.DeleteFunc(s.Deployments, func(o history.Object) bool { return o.Key == op.Key })
		f.Nodes[name] = s
	}
	return true
}

func skipChange(h *history.History, _ *history.Final) bool {
	write := later(h, func(op *history.Operation) bool { return op.Command && op.Workload == history.Register })
	op := later(h, func(op *history.Operation) bool {
		m, ok := op.Output.(history.Message)
		return ok && write != nil && m.Type == history.Change && m.Index >= write.Index && len(m.Topics) == 0
	})
	if op == nil {
		return false
	}
	h.Operations = slices.DeleteFunc(h.Operations, func(o history.Operation) bool { return o.ID == op.ID })
	return true
}

func repeatEffect(h *history.History, f *history.Final) bool {
	op := later(h, func(op *history.Operation) bool { return op.Workload == history.Idempotent && op.Command })
	if op == nil {
		return false
	}
	known := 0
	for i := range h.Operations {
		if o := &h.Operations[i]; o.Workload == history.Idempotent && o.Key == op.Key {
			known++
		}
	}
	for n := range known {
		f.Effects = append(f.Effects, history.Effect{Index: 1<<40 + uint64(n), Action: "package.update", Object: op.Key}) //nolint:gosec // few
	}
	return true
}

func answerEarly(h *history.History, _ *history.Final) bool {
	op := later(h, func(op *history.Operation) bool {
		in, ok := op.Input.(history.Request)
		return ok && in.Mode == history.AtIndex && op.Outcome == history.OK
	})
	if op == nil {
		return false
	}
	op.Index = op.Input.(history.Request).AtIndex - 1
	return true
}

func addRuntime(_ *history.History, f *history.Final) bool {
	for name, list := range f.Clusters {
		f.Clusters[name] = append(list, history.Runtime{Name: "besides"})
		return true
	}
	return false
}

func takeOld(_ *history.History, f *history.Final) bool {
	if len(f.Fenced) == 0 {
		return false
	}
	old := f.Fenced[len(f.Fenced)-1]
	old.Fence--
	f.Fenced = append(f.Fenced, old)
	return true
}

func addLeader(h *history.History, _ *history.Final) bool {
	op := later(h, func(op *history.Operation) bool { return op.Leader != "" })
	if op == nil {
		return false
	}
	op.Leader = "another"
	return true
}

func otherHash(_ *history.History, f *history.Final) bool {
	for name, s := range f.Nodes {
		s.Hash = "another"
		f.Nodes[name] = s
		return true
	}
	return false
}
