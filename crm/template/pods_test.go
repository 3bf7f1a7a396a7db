package template_test

import (
	"strings"
	"testing"

	"oaas.io/control-plane/crm/template"
)

func TestPodOptionsAreChecked(t *testing.T) {
	good := template.PodOptions{
		ServiceAccount: "functions", PullSecrets: []string{"registry.example"}, NodeSelector: map[string]string{"example.com/pool": "a"},
		Security: template.SecurityBaseline,
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, options := range map[string]template.PodOptions{
		`service account "A B"`:                              {ServiceAccount: "A B"},
		`pull secret "/"`:                                    {PullSecrets: []string{"ok", "/"}},
		`node selector "a b"`:                                {NodeSelector: map[string]string{"a b": "x"}},
		`node selector pool="x y"`:                           {NodeSelector: map[string]string{"pool": "x y"}},
		`pod security "strict": want baseline or restricted`: {Security: "strict"},
	} {
		if err := options.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
