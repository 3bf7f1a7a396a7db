package template

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxNameLength is the longest name of a Service and the longest label value.
const MaxNameLength = 63

const (
	odgmSuffix        = "-odgm"
	odgmServiceSuffix = "-odgm-svc"
	hashLength        = 8
)

// Sanitize turns an id into the form used for object names: ASCII lower case,
// every character outside a-z, 0-9 and '-' becomes one '-', none at either
// end. The result is not cut; it may be empty or start with a digit.
func Sanitize(id string) string {
	var b strings.Builder
	b.Grow(len(id))
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r + ('a' - 'A'))
		default:
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// DNS1035 turns a text into a DNS-1035 label: Sanitize, then "default" if
// nothing is left, a leading "a" if it does not start with a letter, and at
// most 63 characters.
func DNS1035(text string) string {
	name := dns1035(text)
	if len(name) > MaxNameLength {
		name = strings.TrimRight(name[:MaxNameLength], "-")
	}
	return name
}

// dns1035 is DNS1035 without the cut.
func dns1035(text string) string {
	name := Sanitize(text)
	switch {
	case name == "":
		return "default"
	case name[0] < 'a' || name[0] > 'z':
		return "a" + name
	}
	return name
}

// FunctionName is the name of the workload and of the Service of function
// index out of count in a ClassRuntime. WASM functions count too.
func FunctionName(object string, index, count int) string {
	if count == 1 {
		return childName(object, "")
	}
	return childName(object, fmt.Sprintf("-fn-%d", index))
}

// ODGMName is the name of the object store's Deployment.
func ODGMName(object string) string {
	return childName(object, odgmSuffix)
}

// ODGMServiceName is the name of the object store's Service.
func ODGMServiceName(object string) string {
	return childName(object, odgmServiceSuffix)
}

// OwnerLabel is the value of the label that ties children to a ClassRuntime:
// its name, or a cut of it with a hash when it is too long for a label.
func OwnerLabel(object string) string {
	return LabelValue(object)
}

// childName appends suffix to the object's DNS-1035 name. A name that would
// be too long is cut before the suffix, and the hash of the object's whole
// name takes the place of what was cut.
func childName(object, suffix string) string {
	base := dns1035(object)
	if len(base)+len(suffix) <= MaxNameLength {
		return base + suffix
	}
	room := MaxNameLength - len(suffix) - hashLength - 1
	return strings.TrimRight(base[:room], "-") + "-" + shortHash(object) + suffix
}

// LabelValue returns text as a valid label value. A text that is valid comes
// back as it is; otherwise foreign characters become '-' and the value ends in
// a hash of the text.
func LabelValue(text string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, text)
	clean = strings.Trim(clean, "-_.")
	if clean == text && len(clean) <= MaxNameLength {
		return clean
	}
	if room := MaxNameLength - hashLength - 1; len(clean) > room {
		clean = strings.TrimRight(clean[:room], "-_.")
	}
	if clean == "" {
		return shortHash(text)
	}
	return clean + "-" + shortHash(text)
}

// shortHash is the first 8 hex digits of the SHA-256 of text.
func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:hashLength]
}
