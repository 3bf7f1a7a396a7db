package recovery

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/replay"
)

// An operator looks into directories after an accident: what the file's library
// would panic about is told as damage, and what it would overlook is told too.
func TestDamagedLogsAreToldAndNotReadFrom(t *testing.T) {
	cluster := startCluster(t, 1)
	deploy(t, "a", cluster...)
	stopAll(cluster)
	dir := cluster[0].dir
	path := filepath.Join(dir, raftDir, logFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for name, damage := range map[string]func([]byte) []byte{
		"no meta page":             func(b []byte) []byte { clear(b[:2*page]); return b },
		"cut off":                  func(b []byte) []byte { return b[:len(b)/2] },
		"nothing but meta pages":   func(b []byte) []byte { copy(b[2*page:], bytes.Repeat([]byte{0xa5, 0x5a, 0x99}, len(b))); return b },
		"zeros but for meta pages": func(b []byte) []byte { clear(b[2*page:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, damage(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			var damaged *raftstore.CorruptError
			if _, err := Inspect(t.Context(), dir); !errors.As(err, &damaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("inspect: %v", err)
			}
			if _, err := replay.Run(t.Context(), replay.Options{DataDir: dir}); !errors.As(err, &damaged) {
				t.Errorf("replay: %v", err)
			}
			if _, err := Recover(t.Context(), Options{DataDir: dir, DryRun: true}); !errors.As(err, &damaged) {
				t.Errorf("recover: %v", err)
			}
		})
	}
}
