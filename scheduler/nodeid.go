package scheduler

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// NodeID is the id of a deployment's data node in one environment: a non-zero
// 32-bit number, a pure function of the arguments.
func NodeID(uid, env string) uint64 {
	return uint64(nodeID(uid, env, 0))
}

// NodeIDs gives every environment its NodeID, and where two of them collide the
// later one by name the next in its own sequence. It is a pure function of the
// set of environments: their order and repetitions do not matter.
func NodeIDs(uid string, envs []string) map[string]uint64 {
	return distinct(envs, func(env string, attempt uint32) uint32 { return nodeID(uid, env, attempt) })
}

func distinct(envs []string, id func(env string, attempt uint32) uint32) map[string]uint64 {
	sorted := slices.Clone(envs)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)

	ids := make(map[string]uint64, len(sorted))
	taken := make(map[uint32]bool, len(sorted))
	for _, env := range sorted {
		attempt := uint32(0)
		for taken[id(env, attempt)] {
			attempt++
		}
		chosen := id(env, attempt)
		taken[chosen] = true
		ids[env] = uint64(chosen)
	}
	return ids
}

// nodeID hashes until the result is not zero, which data nodes take for "none".
func nodeID(uid, env string, attempt uint32) uint32 {
	h := sha256.New()
	writeField(h, uid)
	writeField(h, env)
	sum := h.Sum(binary.BigEndian.AppendUint32(nil, attempt))
	// The attempt stands in front of the sum: hashing both makes every attempt a
	// fresh draw.
	for {
		again := sha256.Sum256(sum)
		if id := binary.BigEndian.Uint32(again[:]); id != 0 {
			return id
		}
		sum = again[:]
	}
}

// writeField writes the length first, so that no two lists of fields are the
// same bytes.
func writeField(w interface{ Write([]byte) (int, error) }, s string) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(s)))
	// A hash never fails.
	_, _ = w.Write(size[:])
	_, _ = w.Write([]byte(s))
}
