package fsm

import (
	"testing"

	"go.uber.org/goleak"
)

// Snapshots are decoded by goroutines, which must have ended whatever was wrong
// with the snapshot.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
