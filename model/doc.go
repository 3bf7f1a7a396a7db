// Package model holds the documents that users write and the API serves:
// packages, classes, functions and deployments.
//
// # Flow
//
// Every type has one field table (schema.go). The table says how each field is
// called, whether it is required, nullable or defaulted when it is read, and
// whether it is omitted when it is empty. Decoding, encoding and cloning all
// walk the same table, so they cannot disagree about a field:
//
//	JSON text ──parseJSON──┐                       ┌─ MarshalJSON
//	                       ├─► tree ─► table ─► struct ─┤
//	YAML text ──parseYAML──┘                       └─ Clone, Validate
//
// Text is parsed into a tree before a table looks at it. A document that is not
// well formed is therefore always a syntax error, whatever else is wrong with
// it, and one that does not fit the model is a schema error with the path of the
// offending value. See DecodeError.
//
// # Rules of the JSON form
//
// Unknown fields are ignored, but for those of a placement, of pod settings, of a rollout and of a failover
// in what people write; a known field or a map key that appears twice is refused. Integers have
// neither fraction nor exponent. Floats accept integers and are written with a decimal point. Timestamps are RFC 3339 on input, UTC
// with suffix Z and 0, 3, 6 or 9 fractional digits on output. YAML takes plain
// scalars textually where a string is asked for (version: 1.0 is "1.0"), JSON
// does not.
//
// MarshalJSON gives the canonical form: fields in table order, map keys sorted,
// no insignificant space, no HTML escaping. Equal documents have equal bytes.
// (json.Marshal called on top of it escapes <, > and &; that is equally
// deterministic and decodes to the same document.)
//
// # Invariants
//
//   - Decoding what was encoded gives an equal document, and encoding it again
//     gives equal bytes. What could not be decoded again is refused by
//     MarshalJSON: an enumeration value that does not exist, a float that is not
//     finite, a year outside 0..9999.
//   - An empty list or map is nil after decoding and after Clone. Callers that
//     write into a map make it first.
//   - No input panics or recurses without bound: nesting is limited, and so are
//     the nodes that YAML aliases may expand to.
//   - The package does no I/O and reads no clock.
//
// Decoding checks the shape only. Validate checks what the shape cannot say and
// reports every problem at once.
package model
