package main

import (
	"fmt"
	"io"
	"time"
)

// timeline prints what happened when, and how long it took.
type timeline struct {
	out   io.Writer
	began time.Time
}

func newTimeline(out io.Writer) *timeline {
	_, _ = fmt.Fprintf(out, "%9s %9s\n", "AT ms", "TOOK ms")
	return &timeline{out: out, began: time.Now()}
}

// step does something and prints it, also when it fails.
func (t *timeline) step(what string, do func() error) error {
	began := time.Now()
	err := do()
	if err != nil {
		what = "FAILED: " + what
	}
	t.print(began, what)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (t *timeline) print(began time.Time, what string) {
	now := time.Now()
	_, _ = fmt.Fprintf(t.out, "%9d %9d  %s\n", now.Sub(t.began).Milliseconds(), now.Sub(began).Milliseconds(), what)
}
