package selector_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"oaas.io/control-plane/scheduler/selector"
)

func example() selector.Cluster {
	return selector.Cluster{
		Name: "eu-1", Region: "eu", Zone: "eu-1a", Provider: "acme",
		Labels: map[string]string{"tier": "gold", "arch": "arm64"}, Capabilities: []string{"knative"},
		Cost: 1.5, Availability: .999, FreeCPU: .9, FreeMemory: 1 << 33, NodeCount: 3,
	}
}

func TestEvaluate(t *testing.T) {
	for text, want := range map[string]bool{
		`true`: true,
		`cluster.name == "eu-1" && cluster.region == "eu" && cluster.zone.startsWith("eu-1") && cluster.provider == "acme"`: true,
		`cluster.labels["tier"] in ["gold", "silver"]`:                            true,
		`cluster.labels.arch == "amd64"`:                                          false,
		`"gpu" in cluster.labels`:                                                 false,
		`has(cluster.labels.tier) && !has(cluster.labels.gpu)`:                    true,
		`"knative" in cluster.capabilities`:                                       true,
		`cluster.cost < 2.0 && cluster.availability >= 0.999`:                     true,
		`cluster.free_cpu < 1 && cluster.free_memory >= 8.0*1024.0*1024.0*1024.0`: true,
		`cluster.node_count > 3`:                                                  false,
		`cluster.labels.all(k, size(k) == 4)`:                                     true,
		`cluster.labels.map(k, k) == ["arch", "tier"]`:                            true,
		`cluster.labels.missing == "x" || cluster.node_count == 3`:                true,
	} {
		p, err := selector.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Evaluate(example()); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if p.String() != text {
			t.Errorf("text %q", p)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	many := `"a"` + strings.Repeat(`, "a"`, 400)
	for text, problem := range map[string]string{
		`cluster.labels["gpu"] == "yes"`:                                 "no such key: gpu",
		`cluster.labels.gpu == "yes"`:                                    "no such key: gpu",
		`1 / (cluster.node_count - 3) > 0`:                               "division by zero",
		`cluster.name.matches("(" + cluster.region)`:                     "missing closing",
		`[` + many + `].all(x, [` + many + `].all(y, x == y || x != y))`: "cost limit exceeded",
	} {
		p, err := selector.Compile(text)
		if err != nil {
			t.Errorf("%.60s: %v", text, err)
			continue
		}
		got, err := p.Evaluate(example())
		var e *selector.EvaluationError
		if got || !errors.As(err, &e) || e.Cluster != "eu-1" || e.Expression != text || !strings.Contains(e.Problem, problem) {
			t.Errorf("%.60s: %v, %v", text, got, err)
		}
	}
}

// The order in which Go goes over a map must not show.
func TestLabelsHaveAnOrder(t *testing.T) {
	p, err := selector.Compile(`cluster.labels.map(k, k)[0] == "k00"`)
	if err != nil {
		t.Fatal(err)
	}
	c := example()
	c.Labels = map[string]string{}
	for i := range 50 {
		c.Labels[fmt.Sprintf("k%02d", i)] = ""
	}
	for range 20 {
		if got, err := p.Evaluate(c); err != nil || !got {
			t.Fatal(got, err)
		}
	}
}

func TestExpressionRefused(t *testing.T) {
	for _, tc := range []struct {
		text         string
		line, column int
		problem      string
	}{
		{"", 0, 0, "empty"},
		{" \n", 0, 0, "empty"},
		{strings.Repeat("x", selector.MaxLength+1), 0, 0, "longer than 4096"},
		{`cluster.regoin == "eu"`, 1, 1, "no such field"},
		{`cluster == 1`, 1, 1, "no such field"},
		{`true &&` + "\n" + `  node == 1`, 2, 3, "undeclared reference to 'node'"},
		{`cluster.region == 1`, 1, 16, "no matching overload"},
		{`cluster.name`, 0, 0, "type string, not bool"},
		{`cluster.name ==`, 1, 16, "Syntax error"},
		{`cluster.labels["a"] `, 0, 0, "type string, not bool"},
		{`dyn(true)`, 0, 0, "type dyn, not bool"},
		{strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), 0, 0, "recursion limit"},
	} {
		p, err := selector.Compile(tc.text)
		var e *selector.SyntaxError
		if p != nil || !errors.As(err, &e) {
			t.Errorf("%.40q: %v", tc.text, err)
			continue
		}
		if e.Line != tc.line || e.Column != tc.column && tc.line > 0 || !strings.Contains(err.Error(), tc.problem) {
			t.Errorf("%.40q: line %d column %d: %s", tc.text, e.Line, e.Column, e.Problem)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := selector.NewCache(2)
	compile := func(text string) *selector.Program {
		p, err := c.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := compile("true")
	compile("false")
	if compile("true") != a {
		t.Error("what is there was compiled again")
	}
	compile("1 == 1")
	if c.Len() != 2 {
		t.Errorf("%d programs", c.Len())
	}
	if compile("true") != a {
		t.Error("the one used last was dropped")
	}
	if _, err := c.Compile("nonsense"); err == nil || c.Len() != 2 {
		t.Errorf("%v, %d programs", err, c.Len())
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if p, err := c.Compile(fmt.Sprintf("%d > 3", i%4)); err != nil || p == nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c.Len() != 2 {
		t.Errorf("%d programs", c.Len())
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`cluster.labels["tier"] in ["gold"]`, `cluster.labels.map(k, k)[0] == "a"`, `cluster.name.matches("a+")`,
		`[1,2].all(x, x > 0)`, `1/0 > 0`, `duration("1s") < duration("2s")`, `"\u00df" == b"a"`, `((`, `cluster.`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := selector.Compile(text)
		if err != nil {
			var e *selector.SyntaxError
			if p != nil || !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		first, err := p.Evaluate(example())
		if err != nil {
			var e *selector.EvaluationError
			if first || !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
		}
		if again, err2 := p.Evaluate(example()); again != first || (err == nil) != (err2 == nil) {
			t.Fatalf("%v, then %v", first, again)
		}
	})
}
