package local

import (
	"bytes"
	"testing"

	"sigs.k8s.io/yaml"
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
