package workdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oaas.io/control-plane/deploy/local/filelock"
)

// A directory belongs to whoever holds its lock; only those of dead processes may be removed.
func TestSweepRemovesOnlyWhatIsLeft(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"used", "left", "new"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	used, err := filelock.Try(filepath.Join(root, "used", ownerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer used.Release()
	left, err := filelock.Try(filepath.Join(root, "left", ownerFile))
	if err != nil {
		t.Fatal(err)
	}
	left.Release()
	sweep(root)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if got := strings.Join(names, " "); got != "new used" {
		t.Errorf("left: %q, want \"new used\"", got)
	}
}

func TestDirIsUsedByOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	first, err := New(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(path, ""); err == nil {
		t.Error("a directory in use was given again")
	}
	if err := os.WriteFile(first.File("old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.File("old")); !os.IsNotExist(err) {
		t.Errorf("after Clear: %v", err)
	}
	first.Keep()
	second, err := New(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after Remove: %v", err)
	}
}
