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

// Bounds of what a cluster may say, in bytes. The state keeps the last report of
// every unit, on every node.
const (
	// maxReport bounds one report, maxText one text of it, and maxName a text that
	// is a name.
	maxReport = 64 << 10
	maxText   = 1 << 10
	maxName   = 256
	// reportsBase and reportsPerUnit bound all reports of a cluster together: one
	// class may have much to tell, not all of them.
	reportsBase    = 1 << 20
	reportsPerUnit = 4 << 10
)

// bounded gives the report in a size that the state takes. One that is too large
// loses its details, not what decides about the unit.
func bounded(s *oaaspb.ClassRuntimeSummary, most int) *oaaspb.ClassRuntimeSummary {
	if proto.Size(s) <= most {
		return s
	}
	out := &oaaspb.ClassRuntimeSummary{
		Id: clipName(s.GetId()), DeploymentUnitId: clipName(s.GetDeploymentUnitId()), PackageName: clipName(s.GetPackageName()), ClassKey: clipName(s.GetClassKey()),
		TargetEnvironment: clipName(s.GetTargetEnvironment()), CreatedAt: clipName(s.GetCreatedAt()), UpdatedAt: clipName(s.GetUpdatedAt()),
		PartitionCount: s.GetPartitionCount(), ResourceVersion: clipName(s.GetResourceVersion()), Deleting: s.GetDeleting(),
	}
	if d := s.GetDelivery(); proto.Size(d) <= maxText {
		out.Delivery = d
	}
	text := clip("the report is too large, its details are left out; " + s.GetStatus().GetMessage())
	out.Status = &oaaspb.ClassRuntimeStatus{
		Condition: s.GetStatus().GetCondition(), Phase: s.GetStatus().GetPhase(), Message: &text, LastUpdated: clipName(s.GetStatus().GetLastUpdated()),
	}
	return out
}

// clip cuts a cluster's text to maxText, and makes it one that can be stored: what
// comes in a header of an answer can be any bytes.
func clip(text string) string { return clipTo(text, maxText) }

// clipName cuts what is a name, an id or a time.
func clipName(text string) string { return clipTo(text, maxName) }

func clipTo(text string, most int) string {
	if len(text) <= most {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}
