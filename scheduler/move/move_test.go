package move_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/scheduler/availability"
	"oaas.io/control-plane/scheduler/move"
)

// lossOf is for members that are up so often, independently of each other.
func lossOf(voting bool, up float64) func([]string, int) float64 {
	return func(names []string, members int) float64 {
		need := 1
		if voting {
			need = availability.Majority(members)
		}
		d := availability.NewDistribution(len(names))
		for range names {
			d.Add(up)
		}
		return d.Loss(need)
	}
}

// member reads NAME[>REPLACEMENT][:MARKS]. Marks are l (leaving), v (voter), a (available),
// s (serves), x (lost).
func member(text string) move.Member {
	name, marks, _ := strings.Cut(text, ":")
	m := move.Member{}
	m.Name, m.Replacement, _ = strings.Cut(name, ">")
	for _, mark := range marks {
		switch mark {
		case 'l':
			m.Leaving = true
		case 'v':
			m.Voter = true
		case 'a':
			m.Available, m.Serves = true, true
		case 's':
			m.Serves = true
		case 'x':
			m.Lost, m.Detail = true, "unreachable"
		}
	}
	return m
}

func members(text string) []move.Member {
	var out []move.Member
	for _, one := range strings.Fields(text) {
		out = append(out, member(one))
	}
	return out
}

func TestNext(t *testing.T) {
	wait := func(env, code string) move.Step { return move.Step{Env: env, Code: code} }
	withdraw := func(env, by string) move.Step {
		return move.Step{Kind: move.Withdraw, Env: env, Replacement: by}
	}
	tests := []struct {
		name, members string
		voting        bool
		target        float64
		want          move.Step
	}{
		{"nothing leaves", "a:a b", false, .99, move.Step{Kind: move.Done}},
		{"an empty set is no permission", "a:l", false, .99, wait("a", move.CodeNoReplacement)},
		{"all that stays is down", "a:ls b c", false, .99, wait("a", move.CodeReplacement)},
		{"the replacement is not available", "a:a b>c:la c", false, .99, wait("b", move.CodeReplacement)},
		{"another one is no replacement", "a:a b>c:lx c", false, .9, wait("b", move.CodeReplacement)},
		{"the replacement is available", "b>c:la c:a", false, .99, withdraw("b", "c")},
		{"it has gone, any other does", "b>gone:la a c:a", false, .99, withdraw("b", "c")},
		{"fewer are enough", "a:a b:la", false, .99, withdraw("b", "a")},
		{"fewer are not enough", "a:a b:la", false, .9999, wait("b", move.CodeAvailability)},
		{"fewer are not enough, but it is lost", "a:a b:lx", false, .9999, withdraw("b", "a")},
		{"one that may serve counts before, not after", "a:s b>c:la c:a", false, .9999, wait("b", move.CodeAvailability)},
		{"what is of no use goes first", "a>c:la b>d:lx c:a d:a", false, .9999, withdraw("b", "d")},
		{"one that cannot go does not stop another", "a>c:la b>d:la c d:a", false, .99, withdraw("b", "d")},

		{"a vote for the one that joins", "a:av b:av c>d:avl d:a", true, .99, move.Step{Kind: move.Promote, Env: "d"}},
		{"then the other one loses its own", "a:av b:av c>d:avl d:av", true, .99, move.Step{Kind: move.Demote, Env: "c"}},
		{"which the others have to know first", "a:av b:sv c>d:al d:av", true, .99, wait("b", move.CodeUnsettled)},
		{"and leaves", "a:av b:av c>d:al d:av", true, .99, withdraw("c", "d")},
		{"one vote less is a step, too", "a:av b:avl c:av", true, .9, move.Step{Kind: move.Demote, Env: "b"}},
		{"nobody votes before he is available", "a:av b:av c>d:avl d:s", true, .99, wait("c", move.CodeReplacement)},
		{"a fourth vote is worse than three", "a:av b:av c>d:avl d:a", true, .9997, move.Step{Kind: move.Exchange, Env: "c", Replacement: "d"}},
		{"a single vote is not exchanged", "a>b:avl b:a", true, .99, wait("a", move.CodeAvailability)},
		{"the lost one's vote goes first", "a:av b:av c>d:xvl d:a", true, .99, move.Step{Kind: move.Demote, Env: "c"}},
		{"but not before another can take it", "a:av b:av c>d:xvl d:x", true, .99, wait("c", move.CodeReplacement)},
		{"then the other one votes", "a:av b:av c>d:xl d:a", true, .99, move.Step{Kind: move.Promote, Env: "d"}},
		{"then it leaves", "a:av b:av c>d:xl d:av", true, .99, withdraw("c", "d")},
		{"the last step has not arrived", "a:av b:sv c>d:avl d:a", true, .99, wait("b", move.CodeUnsettled)},
		{"it cannot arrive", "a:av b:av e:av f:av c:xv g>d:avl d:a", true, .9, move.Step{Kind: move.Promote, Env: "d"}},
		{"no majority, no change", "a:av b:xv c>d:xvl d:a", true, .99, move.Step{Kind: move.Promote, Env: "d"}},
		{"one that joins alone", "a:av b:av c:av d:a", true, .99, move.Step{Kind: move.Promote, Env: "d"}},
		{"one vote becomes three at once", "a:av b:a c:a", true, .999, move.Step{Kind: move.Promote, Env: "b", With: []string{"c"}}},
		{"but not before both are there", "a:av b:a c", true, .999, wait("c", move.CodeReplacement)},
		{"four are wished", "a:av b:av c:av d:a", true, .9999, move.Step{Kind: move.Promote, Env: "d"}},
		{"three votes become one at once", "a:av b:avl c:avl", true, .99, move.Step{Kind: move.Demote, Env: "b", With: []string{"c"}}},
		{"then they leave", "a:av b:al c:al", true, .99, withdraw("b", "a")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := move.Next(move.State{Members: members(tt.members), Voting: tt.voting, Permitted: 1 - tt.target, Loss: lossOf(tt.voting, .99)})
			if (got.Message == "") != (got.Kind != move.Wait) {
				t.Errorf("message %q", got.Message)
			}
			got.Message = ""
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name, members string
		voting        bool
		target        float64
		want          bool
	}{
		{"what stays is enough", "a:a b:a c:al", false, .99, true},
		{"it is not available", "a:a b:s c:al", false, .99, false},
		{"it is not enough", "a:a b:al", false, .9999, false},
		{"nothing stays", "a:al", false, .9, false},
		{"the majority would go", "a:av b:avl c:avl", true, .9, false},
		{"a vote would go", "a:av b:av c:avl", true, .9, false},
		{"without its vote", "a:av b:av c:al", true, .9, true},
	} {
		if got := move.AtOnce(move.State{Members: members(tt.members), Voting: tt.voting, Permitted: 1 - tt.target, Loss: lossOf(tt.voting, .99)}); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestBudget(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	ago := func(minutes ...int) (out []time.Time) {
		for _, m := range minutes {
			out = append(out, now.Add(-time.Duration(m)*time.Minute))
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		perHour int
		times   []time.Time
		want    int // minutes from now; not above 0: at once
	}{
		{"the first", 2, nil, 0},
		{"held down after one", 9, ago(1), 4},
		{"longer after two", 9, ago(20, 1), 9},
		{"longer after three", 9, ago(40, 20, 1), 19},
		{"at most an hour", 9, ago(300, 290, 280, 270, 260, 250, 1), 59},
		{"two within an hour are enough", 2, ago(30, 20), 30},
		{"one an hour", 1, ago(10), 50},
		{"what is long ago is forgotten", 1, ago(361), -301},
	} {
		got := move.Budget{PerHour: tt.perHour}.Next(tt.times, now)
		if want := now.Add(time.Duration(tt.want) * time.Minute); !got.Equal(want) && (tt.want > 0 || got.After(now)) {
			t.Errorf("%s: %s from now, want %d min", tt.name, got.Sub(now), tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name, fleet string // region:clusters/lost
		want        bool
	}{
		{"nothing", "", false},
		{"one of one", "r:1/1", false},
		{"one of two", "r:2/1", false},
		{"one of three", "r:3/1", false},
		{"one of four", "r:4/1", false},
		{"two of two", "r:2/2", true},
		{"two of three", "r:3/2", true},
		{"two of four", "r:2/1 s:2/1", true},
		{"two of nine", "r:5/1 s:4/1", true},
		{"two of ten", "r:5/1 s:5/1", false},
		{"three of ten", "r:5/1 s:5/2", true},
		{"half of a region of two", "r:2/1 s:20/0", false},
		{"all of a region of two", "r:2/2 s:20/0", true},
		{"half of a region of four", "r:4/2 s:20/0", true},
		{"less than half of a region", "r:5/2 s:20/0", false},
		{"no region is none", ":4/2 s:20/0", false},
	} {
		var fleet []move.Cluster
		for _, part := range strings.Fields(tt.fleet) {
			var total, lost int
			region, numbers, _ := strings.Cut(part, ":")
			if _, err := fmt.Sscanf(numbers, "%d/%d", &total, &lost); err != nil {
				t.Fatal(err)
			}
			for i := range total {
				fleet = append(fleet, move.Cluster{Name: fmt.Sprint(region, i), Region: region, Lost: i < lost})
			}
		}
		got := move.Judge(fleet)
		if got.Suspected != tt.want || got.Total != len(fleet) || (got.Reason != "") != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}
