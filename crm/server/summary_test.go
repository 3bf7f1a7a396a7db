package server

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oaas.io/control-plane/crm/api/v1alpha1"
	"oaas.io/control-plane/proto/oaaspb"
)

func TestSummaryText(t *testing.T) {
	yes := func(kind v1alpha1.ConditionType) v1alpha1.Condition {
		return v1alpha1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Why", Message: "what."}
	}
	no := func(kind v1alpha1.ConditionType) v1alpha1.Condition {
		return v1alpha1.Condition{Type: kind, Status: metav1.ConditionFalse}
	}
	const (
		running = oaaspb.DeploymentCondition_RUNNING
		moving  = oaaspb.DeploymentCondition_DEPLOYING
		down    = oaaspb.DeploymentCondition_DOWN
		pending = oaaspb.DeploymentCondition_PENDING
	)
	for name, tc := range map[string]struct {
		object    v1alpha1.ClassRuntime
		text      string
		condition oaaspb.DeploymentCondition
	}{
		"no status": {v1alpha1.ClassRuntime{}, "Pending", pending},
		"available": {withConditions(yes(v1alpha1.ConditionAvailable)), "Available", running},
		"available wins over a leftover of oaas-rs": {
			withConditions(yes(v1alpha1.ConditionProgressing), yes(v1alpha1.ConditionAvailable)), "Available", running,
		},
		"degraded": {withConditions(no(v1alpha1.ConditionAvailable), yes(v1alpha1.ConditionDegraded)), "Degraded (Why): what.", down},
		"serving while the new pods fail": {
			withConditions(yes(v1alpha1.ConditionAvailable), yes(v1alpha1.ConditionDegraded)), "Available, but degraded (Why): what.", running,
		},
		"old pods serve while new ones start": {
			withConditions(yes(v1alpha1.ConditionAvailable), yes(v1alpha1.ConditionProgressing), no(v1alpha1.ConditionReady)),
			"Progressing (Why): what.", moving,
		},
		"progressing": {withConditions(yes(v1alpha1.ConditionProgressing)), "Progressing", moving},
		"phase only":  {v1alpha1.ClassRuntime{Status: v1alpha1.ClassRuntimeStatus{Phase: "pending"}}, "pending", pending},
		"message only": {
			v1alpha1.ClassRuntime{Status: v1alpha1.ClassRuntimeStatus{Message: "Applied workload"}}, "Applied workload", pending,
		},
		"empty status": {v1alpha1.ClassRuntime{Status: v1alpha1.ClassRuntimeStatus{ObservedGeneration: 1}}, "found", running},
		"a change that nobody looked at yet": {
			func() v1alpha1.ClassRuntime {
				o := withConditions(yes(v1alpha1.ConditionAvailable))
				o.Generation, o.Status.ObservedGeneration = 2, 1
				return o
			}(), "Progressing: the change is not applied yet", moving,
		},
		"going away": {
			func() v1alpha1.ClassRuntime {
				o := withConditions(yes(v1alpha1.ConditionAvailable))
				o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
				return o
			}(), "Deleting", pending,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{opts: Options{Clock: time.Now}}
			got := s.statusOf(&tc.object)
			if got.GetMessage() != tc.text || got.GetCondition() != tc.condition {
				t.Errorf("got %q %v, want %q %v", got.GetMessage(), got.GetCondition(), tc.text, tc.condition)
			}
			if wantRunning := tc.condition == running; (got.GetPhase() == oaaspb.DeploymentPhase_PHASE_RUNNING) != wantRunning {
				t.Errorf("phase %v", got.GetPhase())
			}
		})
	}
}

func withConditions(conditions ...v1alpha1.Condition) v1alpha1.ClassRuntime {
	return v1alpha1.ClassRuntime{Status: v1alpha1.ClassRuntimeStatus{Conditions: conditions}}
}

func TestStaleStatusIsNotReady(t *testing.T) {
	object := withConditions(
		v1alpha1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue},
		v1alpha1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue},
	)
	object.Generation, object.Status.ObservedGeneration = 3, 2
	for _, c := range conditionsOf(&object) {
		want := "True"
		if c.GetType() == "Ready" {
			want = "Unknown"
		}
		if c.GetStatus() != want {
			t.Errorf("%s is %s, want %s", c.GetType(), c.GetStatus(), want)
		}
	}
}

func TestPackageOf(t *testing.T) {
	for in, want := range map[string]string{"a.B": "a", "a.b.C": "a.b", "C": "", "": ""} {
		if got := packageOf(in); got != want {
			t.Errorf("packageOf(%q) = %q, want %q", in, got, want)
		}
	}
}
