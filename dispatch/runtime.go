package dispatch

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/proto/oaaspb"
)

// sameRuntime reports whether two reports say the same to a reader: the times
// of observation and the object's version, which change without the runtime
// changing, do not count.
func sameRuntime(a, b *oaaspb.ClassRuntimeSummary) bool {
	if a == nil || b == nil {
		return a == b
	}
	return proto.Equal(essence(a), essence(b))
}

func essence(s *oaaspb.ClassRuntimeSummary) *oaaspb.ClassRuntimeSummary {
	c := proto.CloneOf(s)
	c.ResourceVersion, c.UpdatedAt = "", ""
	if c.Status != nil {
		c.Status.LastUpdated = ""
	}
	return c
}

// Bounds of what a cluster may say about one unit, in bytes. The state keeps the
// last report of every unit, on every node.
const (
	maxReport = 256 << 10
	maxText   = 1 << 10
)

// bounded gives the report in a size that the log takes. One that is too large
// loses its details, not what decides about the unit.
func bounded(s *oaaspb.ClassRuntimeSummary) *oaaspb.ClassRuntimeSummary {
	if proto.Size(s) <= maxReport {
		return s
	}
	out := &oaaspb.ClassRuntimeSummary{
		Id: clip(s.GetId()), DeploymentUnitId: clip(s.GetDeploymentUnitId()), PackageName: clip(s.GetPackageName()), ClassKey: clip(s.GetClassKey()),
		TargetEnvironment: clip(s.GetTargetEnvironment()), CreatedAt: clip(s.GetCreatedAt()), UpdatedAt: clip(s.GetUpdatedAt()),
		PartitionCount: s.GetPartitionCount(), ResourceVersion: clip(s.GetResourceVersion()), Deleting: s.GetDeleting(),
	}
	if d := s.GetDelivery(); proto.Size(d) <= maxText {
		out.Delivery = d
	}
	text := clip("the report is too large, its details are left out; " + s.GetStatus().GetMessage())
	out.Status = &oaaspb.ClassRuntimeStatus{
		Condition: s.GetStatus().GetCondition(), Phase: s.GetStatus().GetPhase(), Message: &text, LastUpdated: clip(s.GetStatus().GetLastUpdated()),
	}
	return out
}

// clip cuts a cluster's text to maxText.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText-3], "") + "..."
}
