package selector

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
)

const (
	// MaxLength bounds the text of an expression or a label selector, in bytes.
	MaxLength = 4096
	// MaxCost bounds the evaluation of an expression for one cluster. One unit is
	// about one comparison; a pass over all labels of a cluster costs a few per label.
	MaxCost = 10_000
)

// Cluster is what an expression can ask about.
type Cluster struct {
	Name, Region, Zone, Provider string
	Labels                       map[string]string
	Capabilities                 []string
	// Cost is in the unit of the fleet, and Availability within 0..1.
	Cost, Availability float64
	// FreeCPU is in cores, FreeMemory in bytes.
	FreeCPU, FreeMemory float64
	NodeCount           int
}

// SyntaxError is a text that is no expression, or no label selector.
type SyntaxError struct {
	// Text is what was refused.
	Text string
	// Line and Column tell where, both from 1; the column counts characters. Both are
	// 0 when it is the whole text that is refused.
	Line, Column int
	Problem      string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return "selector: " + e.Problem
	}
	return fmt.Sprintf("selector: line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// EvaluationError is an expression that has no answer for a cluster, for example
// because it asks for a label that the cluster does not have.
type EvaluationError struct {
	Expression string
	Cluster    string
	Problem    string
}

func (e *EvaluationError) Error() string {
	return fmt.Sprintf("selector: cluster %s: %q has no answer: %s", e.Cluster, e.Expression, e.Problem)
}

// Program is a compiled expression.
type Program struct {
	text    string
	program cel.Program
}

// String is the text of the expression.
func (p *Program) String() string { return p.text }

// environment is made when it is first needed: it takes some milliseconds, which
// programs that only link this package need not spend.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		// Each field is a variable with a dot in its name, as the language permits:
		// the checker then knows every field and its type, which a map would hide.
		cel.Variable("cluster.name", cel.StringType),
		cel.Variable("cluster.region", cel.StringType),
		cel.Variable("cluster.zone", cel.StringType),
		cel.Variable("cluster.provider", cel.StringType),
		cel.Variable("cluster.labels", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("cluster.capabilities", cel.ListType(cel.StringType)),
		cel.Variable("cluster.cost", cel.DoubleType),
		cel.Variable("cluster.availability", cel.DoubleType),
		cel.Variable("cluster.free_cpu", cel.DoubleType),
		cel.Variable("cluster.free_memory", cel.DoubleType),
		cel.Variable("cluster.node_count", cel.IntType),
		// A limit of 0.9 cores compares with a count of 1 as anybody expects.
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(maxDepth),
	)
})

// maxDepth bounds the nesting of an expression. The parser, the checker and the
// planner of the library descend recursively.
const maxDepth = 100

// Compile makes a program of an expression. What is wrong with it is a *SyntaxError,
// which tells the first problem.
func Compile(expression string) (*Program, error) {
	if len(expression) > MaxLength {
		return nil, &SyntaxError{Text: expression[:64] + "…", Problem: fmt.Sprintf(
			"an expression of %d bytes is longer than %d", len(expression), MaxLength)}
	}
	if strings.TrimSpace(expression) == "" {
		return nil, &SyntaxError{Text: expression, Problem: "the expression is empty"}
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, syntax(expression, issues)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, &SyntaxError{Text: expression, Problem: fmt.Sprintf(
			"the expression is of the type %s, not bool", ast.OutputType())}
	}
	// Constant folding is left out: it would spend, outside of any limit, what the
	// expression costs.
	program, err := env.Program(ast, cel.CostLimit(MaxCost))
	if err != nil {
		return nil, &SyntaxError{Text: expression, Problem: err.Error()}
	}
	return &Program{text: expression, program: program}, nil
}

func syntax(expression string, issues *cel.Issues) *SyntaxError {
	e := &SyntaxError{Text: expression, Problem: issues.Err().Error()}
	if list := issues.Errors(); len(list) > 0 {
		first := list[0]
		for _, other := range list[1:] {
			if l, f := other.Location, first.Location; l.Line() < f.Line() || l.Line() == f.Line() && l.Column() < f.Column() {
				first = other
			}
		}
		e.Problem = first.Message
		if first.Location.Line() > 0 {
			e.Line, e.Column = first.Location.Line(), first.Location.Column()+1
		}
	}
	if strings.HasPrefix(e.Problem, "undeclared reference to 'cluster'") {
		e.Problem = "a cluster has no such field; it has name, region, zone, provider, labels, capabilities, " +
			"cost, availability, free_cpu, free_memory and node_count"
	}
	return e
}

// Evaluate tells whether the expression is true of the cluster. The error is an
// *EvaluationError, and means that the expression has no answer for this cluster; it
// may well have one for others.
func (p *Program) Evaluate(c Cluster) (bool, error) {
	value, _, err := p.program.Eval(activation{&c})
	if err != nil {
		return false, &EvaluationError{Expression: p.text, Cluster: c.Name, Problem: problem(err)}
	}
	truth, ok := value.(types.Bool)
	if !ok {
		return false, &EvaluationError{Expression: p.text, Cluster: c.Name, Problem: "it is not bool"}
	}
	return bool(truth), nil
}

// problem is the innermost message, as the library wraps the same text repeatedly.
func problem(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
