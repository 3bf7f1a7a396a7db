//go:build !amd64

package clock

// There is no stub for this architecture.
var (
	stub    []byte
	entries map[string]uint64
)

const stubCode = 0
