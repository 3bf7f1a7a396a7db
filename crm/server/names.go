package server

import (
	"strconv"
	"strings"
)

// maxObjectName is the longest object name the Kubernetes API takes. Names made
// by our package manager stay within 63, because children carry them as label
// values.
const maxObjectName = 253

// sanitizeID turns a unit id into the object's name: ASCII lower case, every
// character outside a-z, 0-9 and '-' becomes one '-', none at either end. The
// result may be empty.
func sanitizeID(id string) string {
	var b strings.Builder
	b.Grow(len(id))
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			b.WriteRune(r)
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r + ('a' - 'A'))
		default:
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// dns1035 is the form of a name that templates render: lower case, letters,
// digits and '-', beginning with a letter, at most 63 characters, never empty.
func dns1035(name string) string {
	out := sanitizeID(name)
	switch {
	case out == "":
		out = "default"
	case out[0] < 'a' || out[0] > 'z':
		out = "a" + out
	}
	return strings.TrimRight(out[:min(len(out), 63)], "-")
}

// functionName is the name of the workload and Service of one of count functions.
func functionName(object string, index, count int) string {
	if count == 1 {
		return dns1035(object)
	}
	return dns1035(object) + "-fn-" + strconv.Itoa(index)
}
