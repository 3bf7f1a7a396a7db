package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dom "golang.org/x/net/html"
	"pgregory.net/rapid"

	"oaas.io/control-plane/jepsen/history"
)

var update = flag.Bool("update", false, "write the golden page anew")

const second = time.Second

func small() (history.History, Summary) {
	op := func(kind string, call, took time.Duration, o history.Outcome) history.Operation {
		return history.Operation{Workload: "register", Kind: kind, Key: "k", Node: "pm-1", Outcome: o, Call: call, Return: call + took}
	}
	h := history.History{
		Operations: []history.Operation{
			op("write", 1*second, 5*time.Millisecond, history.OK),
			op("read", 1100*time.Millisecond, 2*time.Millisecond, history.OK),
			op("read", 3*second, 900*time.Millisecond, history.OK),
			op("write", 3100*time.Millisecond, 2*second, history.Failed),
			{Workload: "register", Kind: "write", Key: "k", Outcome: history.Unknown, Call: 3200 * time.Millisecond},
			op("read", 8*second, 3*time.Millisecond, history.OK),
			{Workload: history.Probe, Kind: history.Look, Outcome: history.OK, Call: 8 * second, Return: 9 * second},
		},
		Events: []history.Event{
			{Kind: history.Leader, Name: "leader", Nodes: []string{"pm-2"}, Term: 2, At: 100 * time.Millisecond},
			{Kind: history.Fault, Name: "kill-leader", Nodes: []string{"pm-2"}, Text: "SIGKILL", At: 2 * second, End: 6 * second},
			{Kind: history.Fault, Name: "slow-link", Nodes: []string{"pm-1", "pm-3"}, At: 5 * second, End: 7 * second},
			{Kind: history.Leader, Name: "leader", Nodes: []string{"pm-3"}, Term: 3, At: 4 * second},
			{Kind: history.Note, Name: "healed", At: 7 * second},
		},
	}
	return h, Summary{
		Title: "three nodes", Seed: 42, Command: "oaas-chaos run --seed 42", Began: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Took: 10 * second,
		Verdicts: []Verdict{
			{Check: "sessions", Result: Holds, Promise: "what a session has seen it does not lose", Took: 3 * time.Millisecond},
			{Check: "linearizable", Result: Violated, Promise: "there is one copy of each object", Looked: "6 operations on 1 key",
				Details: []string{"k: operation 5 reads what operation 0 had overwritten"}, Took: 1200 * time.Millisecond, Attachments: []string{"linearizable-k.html"}},
			{Check: "recovery", Result: Undecided, Promise: "writes go on soon"},
		},
		Figures:     []Field{{Name: "longest write pause", Value: "1.9 s", Note: "from the kill to the first write"}},
		Versions:    []Field{{Name: "pmd", Value: "dev+without-fence"}},
		Unavailable: []Unavailable{{Nemesis: "clock-drift", Reason: "no vDSO to be replaced"}},
		Attachments: []Attachment{
			{Name: "linearizable-k.html", Type: "text/html; charset=utf-8", Path: "linearizable-k.html", Data: []byte("<p>picture</p>")},
			{Name: "history", Type: "application/x-ndjson", Path: "history.jsonl"},
		},
	}
}

func rendered(t testing.TB, h history.History, s Summary) string {
	t.Helper()
	var out bytes.Buffer
	if err := Render(&out, h, s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	h, s := small()
	got := rendered(t, h, s)
	path := filepath.Join("testdata", "small.html")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the page has changed; look at it, then run with -update (-want +got):\n%s", d)
	}
}

func TestPageIsWhole(t *testing.T) {
	h, s := small()
	page := rendered(t, h, s)
	checkPage(t, page)
	for _, want := range []string{
		"three nodes", "oaas-chaos run --seed 42", "k: operation 5 reads", "dev+without-fence", "no vDSO to be replaced",
		"kill-leader", "slow-link", "healed", "longest write pause", "data:text/html;charset=utf-8;base64,",
	} {
		if !strings.Contains(html.UnescapeString(page), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if strings.Index(page, "linearizable</td>") > strings.Index(page, "sessions</td>") {
		t.Error("what is violated does not come first")
	}
	checkPage(t, rendered(t, history.History{}, Summary{}))
}

// external finds what a browser would fetch.
var external = regexp.MustCompile(`(?i)(src|href|action|data|poster|xlink:href)\s*=\s*"?\s*(//|[a-z][a-z0-9+.-]*:)|url\(\s*['"]?[^#)]|@import|<link|<base|<object|<embed`)

// checkPage finds what would not be shown as it is meant: tags that are not balanced, SVG
// that is no XML, and whatever comes from elsewhere.
func checkPage(t testing.TB, page string) {
	t.Helper()
	for _, m := range external.FindAllStringIndex(page, -1) {
		if at := page[m[0]:min(m[0]+80, len(page))]; !strings.HasPrefix(at, `src="data:`) {
			t.Errorf("the page asks for something from elsewhere: %s", at)
		}
	}
	script := strings.Index(page, "<script>")
	end := strings.Index(page, "</script>")
	if script < 0 || end < script || strings.Count(page, "<script") != 1 || strings.Count(page, "</script") != 1 {
		t.Fatal("there is not exactly one script")
	}
	body := page[:script] + page[end+len("</script>"):]
	body = strings.TrimPrefix(body, "<!DOCTYPE html>")
	style, styleEnd := strings.Index(body, "<style>"), strings.Index(body, "</style>")
	body = body[:style] + body[styleEnd+len("</style>"):]
	// What is left is written so that it is XML too, but for attributes without a value.
	body = strings.NewReplacer("<details open>", "<details>", `" open>`, `">`).Replace(body)
	d := xml.NewDecoder(strings.NewReader(body))
	d.Entity = xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
	}
}

func TestLargeHistory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	h := history.History{Operations: make([]history.Operation, 1_000_000)}
	kinds := []string{"read", "write", "cas", "delete"}
	for i := range h.Operations {
		at := time.Duration(i) * 3 * time.Millisecond
		o := history.OK
		if n := rng.IntN(100); n > 97 {
			o = history.Failed
		} else if n > 95 {
			o = history.Unknown
		}
		h.Operations[i] = history.Operation{
			ID: i, Workload: "register", Kind: kinds[rng.IntN(4)], Key: fmt.Sprint("k", i%100), Outcome: o, Call: at, Return: at + time.Duration(rng.IntN(int(second))),
		}
	}
	for i := range 20_000 {
		at := time.Duration(i) * 150 * time.Millisecond
		h.Events = append(h.Events,
			history.Event{Kind: history.Fault, Name: fmt.Sprint("fault-", i%30), Nodes: []string{"pm-1"}, Text: strings.Repeat("long ", 100), At: at, End: at + second},
			history.Event{Kind: history.Leader, Name: "leader", Nodes: []string{fmt.Sprint("pm-", i%5)}, Term: uint64(i), At: at})
	}
	s := Summary{Title: "large", Verdicts: []Verdict{{Check: "c", Result: Violated}}}
	for i := range 10_000 {
		s.Verdicts[0].Details = append(s.Verdicts[0].Details, fmt.Sprint(i, strings.Repeat("x", 10_000)))
	}
	for i := range 20 {
		s.Attachments = append(s.Attachments, Attachment{Name: fmt.Sprint(i), Type: "text/html", Data: make([]byte, 500<<10)})
	}
	page := rendered(t, h, s)
	if len(page) > 5<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if !strings.Contains(page, "16000 more are not shown") || !strings.Contains(page, "9900 that are not shown") {
		t.Error("what is left out is not counted")
	}
}

// shape is all elements of a page, as a browser reads it, with the names of their attributes.
func shape(t testing.TB, page string) (out []string) {
	t.Helper()
	root, err := dom.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == dom.CommentNode {
			out = append(out, "comment")
		}
		if n.Type != dom.ElementNode {
			continue
		}
		text := n.Data
		for _, a := range n.Attr {
			text += " " + a.Key
		}
		out = append(out, text)
	}
	return out
}

// Whatever names and texts contain, the page has the same elements.
func TestNothingBreaksOut(t *testing.T) {
	plain := hostile("x", 7)
	want := shape(t, rendered(t, plain.h, plain.s))
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom([]string{
			"", `</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'"--><svg/onload=alert(1)>`, `]]>`, `<!--`, `javascript:alert(1)`,
			"\u2028</title>", "`${alert(1)}`", `{{.}}`, `&lt;`, `</style>`, `" open x="`, "\x00<", "../../x", `\"</script`,
		}), rapid.String()).Draw(r, "text")
		bad := hostile(text, 7)
		var out bytes.Buffer
		if err := Render(&out, bad.h, bad.s); err != nil {
			r.Fatal(err)
		}
		if d := cmp.Diff(want, shape(t, out.String())); d != "" {
			r.Fatalf("the page has other elements:\n%s", d)
		}
		if strings.Contains(out.String(), `href="javascript`) || strings.Contains(out.String(), `src="javascript`) {
			r.Fatal("a link runs something")
		}
	})
}

type run struct {
	h history.History
	s Summary
}

// hostile is a run in which every text is the same, long enough to be a name.
func hostile(text string, n int) run {
	h, s := small()
	name := fmt.Sprint(n, text)
	for i := range h.Operations {
		if h.Operations[i].Kind != history.Look {
			h.Operations[i].Workload, h.Operations[i].Kind = name, name
		}
	}
	for i := range h.Events {
		h.Events[i].Name, h.Events[i].Text, h.Events[i].Nodes = name, text, []string{name}
	}
	s.Title, s.Command = text, text
	for i := range s.Verdicts {
		s.Verdicts[i] = Verdict{Check: text, Result: s.Verdicts[i].Result, Promise: text, Looked: name, Details: []string{text}}
	}
	s.Figures, s.Versions = []Field{{text, text, text}}, []Field{{text, text, text}}
	s.Unavailable = []Unavailable{{text, text}}
	s.Attachments = []Attachment{{Name: text, Type: "text/html", Path: "#" + text, Data: []byte(name)}, {Name: text, Type: "x/y;" + text, Path: "/" + text}}
	return run{h, s}
}
