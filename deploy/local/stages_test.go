package local

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"oaas.io/control-plane/deploy/local/filelock"
)

func TestStagesAreWellFormed(t *testing.T) {
	config, err := kwokConfig("/tmp/containers.log")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, document := range bytes.Split(config, []byte("\n---\n")) {
		var stage struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				Selector struct{ MatchExpressions []any }
				Steps    []struct {
					Patch struct{ Template string }
				}
			}
		}
		if err := yaml.Unmarshal(document, &stage); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if stage.Kind != "Stage" {
			continue
		}
		name := stage.Metadata.Name
		if names[name] {
			t.Errorf("two stages are named %s", name)
		}
		names[name] = true
		if len(stage.Spec.Selector.MatchExpressions) == 0 || len(stage.Spec.Steps) == 0 {
			t.Errorf("stage %s matches everything or does nothing", name)
		}
		if bytes.Contains(document, []byte("[[")) {
			t.Errorf("stage %s was not expanded:\n%s", name, document)
		}
	}
	if want := len(podStages()) + 3; len(names) != want {
		t.Errorf("%d stages, want %d", len(names), want)
	}
}

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
