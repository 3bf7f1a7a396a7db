package client

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestTypesHaveWhatTheServerAnswers decodes the server's pinned answers with this
// package's types, which repeat the server's so that programs need nothing of
// it. A member that the server has and a type here has not is an error; only
// env-mappings, which says the same twice, is read by half.
func TestTypesHaveWhatTheServerAnswers(t *testing.T) {
	for name, into := range map[string]any{
		"units-waiting":  &[]Unit{},
		"envs":           &[]Env{},
		"envs-agent":     &[]Env{},
		"env-health":     &EnvHealth{},
		"class-runtimes": &[]ClassRuntime{},
		"class-runtime":  &ClassRuntime{},
		"members":        &[]Member{},
		"members-health": &[]Member{},

		"operator-autopilot":        &Autopilot{},
		"operator-autopilot-config": &AutopilotConfig{},
		"operator-alarms":           &[]Alarm{},
		"operator-audit":            &[]AuditEntry{},
		"operator-backups":          &[]Backup{},
		"operator-chain":            &Chain{},
		"operator-feature-level":    &FeatureLevel{},
		"operator-tuning":           &Tuning{},

		"rollout-none":         &Rollout{},
		"rollout-paused":       &Rollout{},
		"rollout-rolling-back": &Rollout{},
		"revisions":            &[]Revision{},
		"events":               &[]TimelineEvent{},

		"move-none":   &Move{},
		"move-held":   &Move{},
		"move-moving": &Move{},
		"drain-held":  &Drain{},
		"fleet-whole": &Fleet{},

		"health":    &Health{},
		"deletions": &[]Deletion{},

		"deletion-waiting":  &Deletion{},
		"deletion-orphaned": &Abandoned{},
		"envs-strays":       &[]Env{},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := os.ReadFile(filepath.Join("..", "testdata", name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			_, body, found := bytes.Cut(answer, []byte("\n\n"))
			if !found {
				t.Fatalf("no body in %s", answer)
			}
			d := json.NewDecoder(bytes.NewReader(body))
			d.DisallowUnknownFields()
			if err := d.Decode(into); err != nil {
				t.Error(err)
			}
		})
	}
}
