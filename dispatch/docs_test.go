package dispatch

import (
	"os"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/fsm"
)

// TestWaitingCodesAreDocumented holds docs/conditions.md against what becomes of
// every gRPC code.
func TestWaitingCodesAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(code string) string {
		_, after, ok := strings.Cut(string(raw), "\n| `"+code+"` |")
		if !ok {
			t.Fatalf("waiting code %s is not documented", code)
		}
		line, _, _ := strings.Cut(after, "\n")
		return line
	}
	for _, code := range []string{WaitUnreachable, fsm.WaitingLost, WaitFailed} {
		row(code)
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		w, _ := explain(status.Error(code, "x"))
		line := row(w.GetCode())
		if w.GetCode() != WaitFailed && !strings.Contains(line, "`"+constantName(code)+"`") {
			t.Errorf("%s is not documented as %s", code, w.GetCode())
		}
		if strings.Contains(line, "after 5 min") != w.GetPermanent() {
			t.Errorf("%s: permanent is %v, the documentation differs", w.GetCode(), w.GetPermanent())
		}
	}
}

// constantName spells a code as the gRPC specification does: DeadlineExceeded is
// DEADLINE_EXCEEDED.
func constantName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range code.String() {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
