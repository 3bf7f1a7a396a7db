package liveness_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oaas.io/control-plane/dispatch/liveness"
)

const (
	unknown     = liveness.Unknown
	healthy     = liveness.Healthy
	suspect     = liveness.Suspect
	unreachable = liveness.Unreachable
	eligible    = liveness.FailoverEligible
)

// plane is a control plane with one cluster, in which time passes second by second.
type plane struct {
	limits   liveness.Limits
	now      time.Time
	stored   liveness.Stored
	own      liveness.Contact
	others   []liveness.Sighting
	skew     time.Duration // of the present leader's clock
	verdict  liveness.Verdict
	visited  []liveness.State
	followed func() *bool // what a follower finds, asked every Renewal while the cluster is away
}

func newPlane(limits liveness.Limits) *plane {
	p := &plane{limits: limits.WithDefaults(), now: time.Unix(1_000_000, 0)}
	p.elect(0)
	return p
}

func (p *plane) clock() time.Time { return p.now.Add(p.skew) }

// elect lets a new leader begin, which knows nothing but what is stored.
func (p *plane) elect(skew time.Duration) {
	p.skew, p.others = skew, nil
	p.own = liveness.Began(p.clock())
	p.judge()
}

func (p *plane) judge() {
	p.verdict = p.limits.Judge(p.stored, p.own, p.others, p.clock())
	if p.verdict.State != p.stored.State {
		p.visited = append(p.visited, p.verdict.State)
	}
	p.stored.State, p.stored.Since = p.verdict.State, p.verdict.Since
}

func (p *plane) up()   { p.own.Found(p.clock()); p.judge() }
func (p *plane) down() { p.own.Lost(p.clock(), p.limits); p.judge() }

func (p *plane) pass(d time.Duration) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(time.Second)
		if away := p.stored.State >= suspect && !p.own.Up; away && p.followed != nil && p.now.Unix()%int64(p.limits.Renewal.Seconds()) == 0 {
			if found := p.followed(); found != nil {
				p.others = append(p.others, liveness.Sighting{At: p.clock(), Reachable: *found})
			}
		}
		p.judge()
	}
}

func TestJudge(t *testing.T) {
	type do = func(*plane)
	up, down := (*plane).up, (*plane).down
	pass := func(seconds int) do { return func(p *plane) { p.pass(time.Duration(seconds) * time.Second) } }
	elect := func(skew time.Duration) do { return func(p *plane) { p.elect(skew) } }
	follower := func(found *bool) do { return func(p *plane) { p.followed = func() *bool { return found } } }
	yes, no := ptr(true), ptr(false)
	coarse := func(p *plane) { p.stored.Coarse = true }
	steady := []do{up, pass(60)}
	with := func(steps ...do) []do { return append(append([]do{}, steady...), steps...) }
	flap := []do{down, pass(2), up, pass(3), down, pass(2), up, pass(3), down, pass(2), up, pass(3), down, pass(2), up}
	for name, c := range map[string]struct {
		limits liveness.Limits
		steps  []do
		want   []liveness.State
	}{
		"never seen, for a while":               {steps: []do{pass(29)}},
		"never seen":                            {steps: []do{pass(60)}, want: []liveness.State{unreachable}},
		"seen at last":                          {steps: []do{pass(60), up, pass(9)}, want: []liveness.State{unreachable}},
		"found":                                 {steps: steady, want: []liveness.State{healthy}},
		"silent for a moment":                   {steps: with(down, pass(14), up, pass(60)), want: []liveness.State{healthy}},
		"silent":                                {steps: with(down, pass(15)), want: []liveness.State{healthy, suspect}},
		"back too soon to count":                {steps: with(down, pass(15), up, pass(9)), want: []liveness.State{healthy, suspect}},
		"back":                                  {steps: with(down, pass(15), up, pass(10)), want: []liveness.State{healthy, suspect, healthy}},
		"not back for long enough":              {steps: with(down, pass(15), up, pass(9), down, pass(6)), want: []liveness.State{healthy, suspect}},
		"away since before it was back briefly": {steps: with(down, pass(15), up, pass(1), down, pass(15)), want: []liveness.State{healthy, suspect, unreachable}},
		"silent for longer":                     {steps: with(down, pass(30)), want: []liveness.State{healthy, suspect, unreachable}},
		"nobody else was asked":                 {steps: with(down, pass(3600)), want: []liveness.State{healthy, suspect, unreachable}},
		"nobody else is needed":                 {limits: liveness.Limits{Unconfirmed: true}, steps: with(down, pass(300)), want: []liveness.State{healthy, suspect, unreachable, eligible}},
		"another node misses it as well":        {steps: with(follower(no), down, pass(300)), want: []liveness.State{healthy, suspect, unreachable, eligible}},
		"not for long enough":                   {steps: with(follower(no), down, pass(299)), want: []liveness.State{healthy, suspect, unreachable}},
		"another node reaches it":               {steps: with(follower(yes), down, pass(3600)), want: []liveness.State{healthy, suspect, unreachable}},
		"another node reaches it after all":     {steps: with(follower(no), down, pass(300), follower(yes), pass(5)), want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable}},
		"reached by another, none is needed":    {limits: liveness.Limits{Unconfirmed: true}, steps: with(follower(yes), down, pass(3600)), want: []liveness.State{healthy, suspect, unreachable}},
		"the other nodes are gone":              {steps: with(follower(no), down, pass(300), follower(nil), pass(31)), want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable}},
		"given up and heard again":              {steps: with(follower(no), down, pass(300), up, pass(9)), want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable}},
		"given up and back":                     {steps: with(follower(no), down, pass(300), up, pass(10)), want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable, healthy}},
		"three brief contacts":                  {steps: with(flap...), want: []liveness.State{healthy, suspect}},
		"it goes on like that":                  {steps: with(append(append([]do{}, flap...), append(flap, flap...)...)...), want: []liveness.State{healthy, suspect, unreachable}},
		"it holds at last":                      {steps: with(append(append([]do{}, flap...), pass(10))...), want: []liveness.State{healthy, suspect, healthy}},
		"a new leader has not met it":           {steps: with(elect(0), pass(14)), want: []liveness.State{healthy}},
		"a new leader misses it":                {steps: with(elect(0), pass(15)), want: []liveness.State{healthy, suspect}},
		"a new leader misses it, too":           {steps: with(down, pass(29), elect(0), pass(14)), want: []liveness.State{healthy, suspect}},
		"a new leader goes on counting":         {steps: with(down, pass(29), elect(0), pass(15)), want: []liveness.State{healthy, suspect, unreachable}},
		"a clock that is ahead":                 {steps: with(down, pass(15), elect(5*time.Second), pass(14)), want: []liveness.State{healthy, suspect}},
		"a clock that is behind":                {steps: with(down, pass(15), elect(-5*time.Second), pass(25)), want: []liveness.State{healthy, suspect, unreachable}},
		"a new leader needs its own evidence": {steps: with(follower(no), down, pass(300), elect(0), pass(29)),
			want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable}},
		"a new leader agrees": {steps: with(follower(no), down, pass(300), elect(0), pass(30)),
			want: []liveness.State{healthy, suspect, unreachable, eligible, unreachable, eligible}},
		"a clock that is ahead, and long before": {steps: with(follower(no), down, pass(260), elect(5*time.Second), pass(39)), want: []liveness.State{healthy, suspect, unreachable}},
		"one step at a time":                     {steps: with(down, pass(14), up, pass(9), down, pass(15)), want: []liveness.State{healthy, suspect}},
		"and then the next":                      {steps: with(down, pass(14), up, pass(9), down, pass(16)), want: []liveness.State{healthy, suspect, unreachable}},
		"a new leader has not lost what it did not have": {steps: with(elect(0), pass(10), up, pass(5), down, pass(20)),
			want: []liveness.State{healthy, suspect}},
		"brief contacts that are not in a row": {steps: with(down, pass(2), up, pass(3), down, pass(2), up, pass(3), down, pass(2), up, pass(60),
			down, pass(2), up, pass(3), down, pass(2), up), want: []liveness.State{healthy}},
		"leaders come and go":              {steps: with(follower(no), down, pass(100), elect(0), pass(100), elect(0), pass(105)), want: []liveness.State{healthy, suspect, unreachable, eligible}},
		"coarse, silent for a moment":      {steps: with(coarse, down, pass(29)), want: []liveness.State{healthy}},
		"coarse":                           {steps: with(coarse, follower(no), down, pass(3600)), want: []liveness.State{healthy, unreachable}},
		"coarse, back":                     {steps: with(coarse, down, pass(60), up, pass(10)), want: []liveness.State{healthy, unreachable, healthy}},
		"coarse, three brief contacts":     {steps: with(append([]do{coarse}, flap...)...), want: []liveness.State{healthy}},
		"coarse, and it goes on like that": {steps: with(append([]do{coarse}, append(append(append([]do{}, flap...), flap...), flap...)...)...), want: []liveness.State{healthy, unreachable}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(c.limits)
			for _, step := range c.steps {
				step(p)
			}
			if diff := cmp.Diff(c.want, p.visited); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The beginning of the silence is that of the first loss, whoever leads, until the cluster
// counts as back.
func TestSilenceCountsFromTheFirstLoss(t *testing.T) {
	p := newPlane(liveness.Limits{})
	p.up()
	p.pass(time.Minute)
	lost := p.now
	p.down()
	p.pass(20 * time.Second)
	p.up()
	p.pass(5 * time.Second)
	p.down()
	p.pass(20 * time.Second)
	p.elect(0)
	p.pass(20 * time.Second)
	if !p.stored.Since.Equal(lost) || p.stored.State != unreachable {
		t.Errorf("%v since %s, lost at %s", p.stored.State, p.stored.Since, lost)
	}
	p.up()
	p.pass(10 * time.Second)
	if !p.stored.Since.IsZero() {
		t.Errorf("still away since %s after it came back", p.stored.Since)
	}
}

// Next is when time alone brings about another verdict: nothing may change before.
func TestNextIsWhenToLookAgain(t *testing.T) {
	p := newPlane(liveness.Limits{Unconfirmed: true})
	p.up()
	p.pass(time.Minute)
	p.down()
	for _, want := range []liveness.State{suspect, unreachable, eligible} {
		for p.stored.State != want {
			p.judge()
			next := p.verdict.Next
			if !next.After(p.now) {
				t.Fatalf("%v at %s, next %s", p.stored.State, p.now, next)
			}
			p.now = next.Add(-time.Nanosecond)
			if p.judge(); p.stored.State == want {
				t.Fatalf("%v before %s", want, next)
			}
			p.now = next
			p.judge()
		}
	}
	if p.judge(); !p.verdict.Next.IsZero() {
		t.Errorf("something is to come after %v, at %s", p.stored.State, p.verdict.Next)
	}
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits liveness.Limits
		bad    bool
	}{
		"defaults":                       {},
		"short ones":                     {limits: liveness.Limits{Renewal: 1, Suspect: 2, Unreachable: 3, Eligible: 4}},
		"renewal is not below suspect":   {limits: liveness.Limits{Renewal: 15 * time.Second}, bad: true},
		"suspect is not below the next":  {limits: liveness.Limits{Suspect: 30 * time.Second}, bad: true},
		"unreachable is not below":       {limits: liveness.Limits{Unreachable: 5 * time.Minute}, bad: true},
		"a negative return":              {limits: liveness.Limits{Return: -1}, bad: true},
		"a negative renewal":             {limits: liveness.Limits{Renewal: -1}, bad: true},
		"eligible is before unreachable": {limits: liveness.Limits{Eligible: time.Second}, bad: true},
	} {
		if err := c.limits.Validate(); (err != nil) != c.bad {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }
