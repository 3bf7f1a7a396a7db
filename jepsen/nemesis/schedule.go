package nemesis

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"
)

// Options shape a schedule. The zero value is filled with the defaults.
type Options struct {
	// MeanFault is how long a fault lasts on average, MeanPause how long nothing is broken between two.
	MeanFault, MeanPause time.Duration
	// Overlap is the share of faults, 0 to 1, that a second one joins.
	Overlap float64
}

// Defaults of Options.
const (
	DefaultMeanFault = 6 * time.Second
	DefaultMeanPause = 3 * time.Second
	DefaultOverlap   = 0.3
)

// Step is one fault of a schedule.
type Step struct {
	// At is when it begins, counted from the begin of the run, and For how long it lasts.
	At, For time.Duration
	Nemesis string
	// Seed of all that the nemesis chooses.
	Seed uint64
}

// End is when the step ends.
func (s Step) End() time.Duration { return s.At + s.For }

// Schedule plans the faults of a run: a pure function of its arguments. Each nemesis comes once before one comes twice, in an
// order that the seed gives. All faults end before the run does; at most two last at the same time, and these are compatible.
func Schedule(seed uint64, nemeses []Nemesis, duration time.Duration, o Options) []Step {
	if len(nemeses) == 0 {
		return nil
	}
	if o.MeanFault <= 0 {
		o.MeanFault = DefaultMeanFault
	}
	if o.MeanPause <= 0 {
		o.MeanPause = DefaultMeanPause
	}
	random := rand.New(rand.NewPCG(seed, 0x6e656d65736973)) //nolint:gosec // a schedule must be repeatable, not secret
	deck := &deck{all: nemeses, random: random}
	var steps []Step
	at := span(random, o.MeanPause)
	for {
		first := Step{At: at, For: span(random, o.MeanFault), Seed: random.Uint64()}
		if first.End() > duration {
			return steps
		}
		chosen := deck.next(nil)
		first.Nemesis = chosen.Name()
		steps = append(steps, first)
		end := first.End()
		if random.Float64() < o.Overlap {
			delay := time.Duration(random.Int64N(int64(first.For))).Round(time.Millisecond)
			second := Step{At: first.At + delay, For: span(random, o.MeanFault), Seed: random.Uint64()}
			if second.End() <= duration {
				if partner := deck.next(chosen); partner != nil {
					second.Nemesis = partner.Name()
					steps = append(steps, second)
					end = max(end, second.End())
				}
			}
		}
		at = end + span(random, o.MeanPause)
	}
}

// span is a random length between a half and twice of the mean: shorter ones break nothing, and longer ones leave no time for
// others.
func span(random *rand.Rand, mean time.Duration) time.Duration {
	factor := math.Exp2(2*random.Float64() - 1)
	return max(time.Duration(factor*float64(mean)).Round(time.Millisecond), time.Millisecond)
}

// deck deals nemeses: all of them, in random order, before one comes again.
type deck struct {
	all    []Nemesis
	random *rand.Rand
	left   []Nemesis
}

// next deals the next one, with a partner the next one that is compatible with it; nil when none that is left is. What is
// passed over for a partner stays in the deck.
func (d *deck) next(partner Nemesis) Nemesis {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.all)
		d.random.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	i := slices.IndexFunc(d.left, func(n Nemesis) bool { return partner == nil || compatible(n, partner) })
	if i < 0 {
		return nil
	}
	taken := d.left[i]
	d.left = slices.Delete(d.left, i, i+1)
	return taken
}

// WriteSchedule prints a schedule for people.
func WriteSchedule(w io.Writer, steps []Step) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps what is written until Flush, which has the error
	_, _ = fmt.Fprintln(tw, "AT\tFOR\tNEMESIS\tSEED")
	for _, s := range steps {
		_, _ = fmt.Fprintf(tw, "%.3fs\t%.3fs\t%s\t%d\n", s.At.Seconds(), s.For.Seconds(), s.Nemesis, s.Seed)
	}
	return tw.Flush()
}
