package v1alpha1_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// TestDocumentationIsComplete holds docs/conditions.md against the table of
// reasons and the declared phases and conditions.
func TestDocumentationIsComplete(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	last := -1
	for _, r := range v1alpha1.ReasonDocs() {
		row := fmt.Sprintf("\n| `%s` | %s | %s |", r.Reason, r.Meaning, r.Recovery)
		at := strings.Index(doc, row)
		if at < 0 {
			t.Errorf("no row %q", row[1:])
			continue
		}
		line, _, _ := strings.Cut(doc[at+1:], "\n")
		if stalls := strings.HasSuffix(line, "| yes |"); stalls != r.Stalls {
			t.Errorf("%s: documented to stall: %v", r.Reason, stalls)
		}
		if degrades := strings.Count(line, "|") == 6; degrades != r.Degrades {
			t.Errorf("%s: documented among the faults: %v", r.Reason, degrades)
		}
		if at < last {
			t.Errorf("%s is out of order, which is that of severity", r.Reason)
		}
		last = at
	}
	for _, kind := range []string{"Phase", "ConditionType"} {
		for _, value := range constants(t, kind) {
			if !strings.Contains(doc, "\n| `"+value+"` | ") {
				t.Errorf("%s %s is not documented", kind, value)
			}
		}
	}
}
