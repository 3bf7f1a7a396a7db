package v1alpha1_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"oaas.io/control-plane/crm/api/v1alpha1"
)

// constants returns the values of the string constants of a type in this
// package.
func constants(t *testing.T, typ string) []string {
	t.Helper()
	var out []string
	for _, file := range files(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typ {
				return true
			}
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, value)
			return true
		})
	}
	if len(out) == 0 {
		t.Fatalf("no constants of type %s found", typ)
	}
	return out
}

func files(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, file)
	}
	return out
}

func TestEveryReasonIsDocumentedOnce(t *testing.T) {
	t.Parallel()
	seen := map[v1alpha1.Reason]int{}
	for _, doc := range v1alpha1.ReasonDocs() {
		seen[doc.Reason]++
		if doc.Meaning == "" || doc.Recovery == "" || (doc.Stalls && !doc.Degrades) {
			t.Errorf("%s: %+v", doc.Reason, doc)
		}
	}
	reasons := constants(t, "Reason")
	for _, reason := range reasons {
		if seen[v1alpha1.Reason(reason)] != 1 {
			t.Errorf("%s has %d rows", reason, seen[v1alpha1.Reason(reason)])
		}
	}
	if len(seen) != len(reasons) {
		t.Errorf("%d rows for %d reasons", len(seen), len(reasons))
	}
	if _, ok := v1alpha1.Reason("Nonsense").Doc(); ok {
		t.Error("nonsense is documented")
	}
}

func TestEveryConditionTypeHasItsPlace(t *testing.T) {
	t.Parallel()
	var order []string
	for _, c := range v1alpha1.ConditionOrder() {
		order = append(order, string(c))
	}
	types := constants(t, "ConditionType")
	slices.Sort(order)
	slices.Sort(types)
	if !slices.Equal(order, types) {
		t.Errorf("ordered are %v, declared are %v", order, types)
	}
}

// TestImports: any client may import the types without dragging in more.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, file := range files(t) {
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(path, ".") && !strings.HasPrefix(path, "k8s.io/apimachinery/") {
				t.Errorf("%s imports %s", file.Name, path)
			}
		}
	}
}

func TestScheme(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ClassRuntime", "ClassRuntimeList"} {
		if _, err := scheme.New(v1alpha1.GroupVersion.WithKind(kind)); err != nil {
			t.Error(err)
		}
	}
}

func TestAnyValueKeepsWhatItGot(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`1.50`: `1.50`, `{"a":[null]}`: `{"a":[null]}`, `null`: `null`} {
		var v v1alpha1.AnyValue
		if err := json.Unmarshal([]byte(in), &v); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(v)
		if err != nil || string(out) != want {
			t.Errorf("%s became %s, %v", in, out, err)
		}
	}
	if err := (*v1alpha1.AnyValue)(nil).UnmarshalJSON(nil); err == nil {
		t.Error("a nil pointer was written to")
	}
	if out, err := json.Marshal(v1alpha1.ClassRuntime{}); err != nil || strings.Contains(string(out), "status") {
		t.Errorf("an empty status is written: %s, %v", out, err)
	}
}
