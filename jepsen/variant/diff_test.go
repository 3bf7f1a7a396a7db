package variant

import (
	"strings"
	"testing"
)

const twoFiles = `Why this is done.

--- a/one.go
+++ a/one.go
@@ anything
 before
-old
+new
+newer

 after
@@
-last
--- two.yaml
+++ two.yaml
@@
-- a list
+- another list
`

func TestDiffApplies(t *testing.T) {
	files, err := parseDiff("d", []byte(twoFiles))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0].path != "a/one.go" || len(files[0].hunks) != 2 || files[1].path != "two.yaml" {
		t.Fatalf("files = %+v", files)
	}
	got, err := files[0].apply([]byte("before\nold\n\nafter\nlast\n"))
	if err != nil || string(got) != "before\nnew\nnewer\n\nafter\n" {
		t.Errorf("= %q, %v", got, err)
	}
	got, err = files[1].apply([]byte("x:\n- a list\n"))
	if err != nil || string(got) != "x:\n- another list\n" {
		t.Errorf("= %q, %v", got, err)
	}
}

// A guard that was rewritten must not be built as if it was taken out.
func TestDiffThatDoesNotFit(t *testing.T) {
	f := fileDiff{path: "x", hunks: []hunk{{old: "guard\n", new: "\n"}}}
	for name, text := range map[string]string{
		"gone":             "another guard\n",
		"twice":            "guard\nguard\n",
		"as part of lines": "guard and more\nthe guard\n",
		"without its end":  "guard",
	} {
		if got, err := f.apply([]byte(text)); err == nil {
			t.Errorf("%s: applied, = %q", name, got)
		} else if !strings.Contains(err.Error(), "x fits in ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiffsThatAreNone(t *testing.T) {
	const head = "--- x\n+++ x\n"
	for name, text := range map[string]string{
		"empty":              "",
		"only words":         "words\n",
		"no hunk":            head,
		"renamed":            "--- x\n+++ y\n@@\n-a\n",
		"outside":            "--- ../x\n+++ ../x\n@@\n-a\n",
		"absolute":           "--- /x\n+++ /x\n@@\n-a\n",
		"twice":              head + "@@\n-a\n" + head + "@@\n-b\n",
		"no change":          head + "@@\n a\n",
		"no place":           head + "@@\n+a\n",
		"no sign":            head + "@@\na\n",
		"text before a hunk": head + " a\n@@\n-a\n",
	} {
		if files, err := parseDiff("d", []byte(text)); err == nil {
			t.Errorf("%s: taken for a diff: %+v", name, files)
		}
	}
}

// Whatever a diff is, reading it ends, and what it replaces is never nothing.
func FuzzParseDiff(f *testing.F) {
	f.Add([]byte(twoFiles))
	f.Add([]byte("--- x\n+++ x\n@@"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := parseDiff("d", text)
		if err != nil {
			return
		}
		for _, file := range files {
			for _, h := range file.hunks {
				if h.old == "" || h.old == h.new {
					t.Errorf("hunk %+v", h)
				}
			}
		}
	})
}
