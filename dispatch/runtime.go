package dispatch

import (
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
