package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionOrder is the order in which conditions are stored: the ones that
// answer "does it work" first.
var conditionOrder = []ConditionType{
	ConditionAvailable, ConditionReady, ConditionProgressing, ConditionReconciling,
	ConditionDegraded, ConditionStalled, ConditionNfrObserved,
	ConditionTelemetryConfigured, ConditionTelemetryDegraded, ConditionUnknown,
}

// ConditionOrder returns all condition types in the order in which they are
// stored.
func ConditionOrder() []ConditionType {
	return append([]ConditionType(nil), conditionOrder...)
}

// FindCondition returns the condition of the type, or nil. The result points
// into conditions.
func FindCondition(conditions []Condition, t ConditionType) *Condition {
	for i := range conditions {
		if conditions[i].Type == t {
			return &conditions[i]
		}
	}
	return nil
}

// IsConditionTrue reports whether the condition is present and True.
func IsConditionTrue(conditions []Condition, t ConditionType) bool {
	c := FindCondition(conditions, t)
	return c != nil && c.Status == metav1.ConditionTrue
}
