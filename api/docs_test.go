package api

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestDocumentationIsComplete holds docs/rest.md against the routes and the
// problem types: each has to be in it, with its method or its status.
func TestDocumentationIsComplete(t *testing.T) {
	raw, err := os.ReadFile("../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	for _, rt := range newHarness(t).server.Routes() {
		for _, method := range rt.Methods {
			if want := fmt.Sprintf("`%s %s`", method, rt.Path); method != http.MethodHead && !strings.Contains(doc, want) {
				t.Errorf("%s is not documented", want)
			}
		}
	}
	for _, p := range ProblemTypes() {
		row := fmt.Sprintf("| `%s` | %d | ", p.Code, p.Status)
		switch p.Retryable {
		case true:
			row += "yes |"
		case false:
			if strings.Contains(doc, row+"with ") {
				continue // depends on the request
			}
			row += "no |"
		}
		if !strings.Contains(doc, row) {
			t.Errorf("problem %s is not documented as %q", p.Code, row)
		}
	}
}
