package variant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Round is one run of the harness against the programs of a variant.
type Round struct {
	Variant Variant
	// Bin has the programs.
	Bin  string
	Seed uint64
	// Length is how long faults may come and go.
	Length time.Duration
}

// Proof says whether the harness has found out that a guard is missing.
type Proof struct {
	Variant string
	Guard   string
	// Caught are the checks that object, none when it was not found out.
	Caught []string
	// Took is the time from the first round on, builds apart, and Seed that of the round
	// that found it.
	Took   time.Duration
	Seed   uint64
	Rounds int
	// Why says why it was not found out.
	Why string
}

// Prove builds a variant into outDir and runs rounds with seeds that follow each other, until
// a check objects or the time box is over. run carries out a round and gives the names of the
// checks that object.
func Prove(ctx context.Context, root, outDir string, v Variant, length time.Duration, seed uint64, run func(context.Context, Round) ([]string, error)) Proof {
	p := Proof{Variant: v.Name, Guard: v.Guard}
	bin, err := Build(ctx, root, outDir, v.Name)
	if err != nil {
		p.Why = "it is not built: " + err.Error()
		return p
	}
	return prove(ctx, p, Round{Variant: v, Bin: bin, Seed: seed, Length: length}, run)
}

func prove(ctx context.Context, p Proof, r Round, run func(context.Context, Round) ([]string, error)) Proof {
	began := time.Now()
	var failed []error
	for ; ; r.Seed++ {
		caught, err := run(ctx, r)
		p.Rounds++
		p.Took = time.Since(began)
		switch {
		case ctx.Err() != nil:
			p.Why = "interrupted"
			return p
		case err != nil:
			failed = append(failed, fmt.Errorf("seed %d: %w", r.Seed, err))
		case len(caught) > 0:
			p.Caught, p.Seed = caught, r.Seed
			return p
		}
		if p.Took+r.Length > r.Variant.TimeBox || len(failed) == maxFailures {
			p.Why = "no check objects within " + r.Variant.TimeBox.String()
			if len(failed) > 0 {
				p.Why = fmt.Sprintf("%d of %d rounds could not be run: %v", len(failed), p.Rounds, errors.Join(failed...))
			}
			return p
		}
	}
}

// maxFailures is after how many rounds that could not be run no more are tried.
const maxFailures = 3

// WriteProofs prints a table for people.
func WriteProofs(w io.Writer, proofs []Proof) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps what is written until Flush, which has the error
	_, _ = fmt.Fprintln(tw, "GUARD TAKEN OUT\tVARIANT\tCAUGHT BY\tAFTER\tROUNDS\tSEED")
	for _, p := range proofs {
		by, seed := "NOT CAUGHT: "+strings.ReplaceAll(p.Why, "\n", "; "), "–"
		if len(p.Caught) > 0 {
			by, seed = strings.Join(p.Caught, ", "), fmt.Sprint(p.Seed)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%.0f s\t%d\t%s\n", p.Guard, p.Variant, by, p.Took.Seconds(), p.Rounds, seed)
	}
	return tw.Flush()
}
