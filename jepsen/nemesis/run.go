package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// endLimit bounds how long a fault may take to end. What is not mended by then, Heal mends.
const endLimit = time.Minute

// Done is a step that was carried out.
type Done struct {
	Step
	Nodes []string
	Text  string
	// Began and Ended are times of the history.
	Began, Ended time.Duration
	// Skipped says why it could not be done at its time; nothing was broken then.
	Skipped error
	// Err is what went wrong while it was begun or ended.
	Err error
}

// String is the step in one line.
func (d Done) String() string {
	text := d.Nemesis
	if len(d.Nodes) > 0 {
		text += " " + strings.Join(d.Nodes, ",")
	}
	if d.Text != "" {
		text += ": " + d.Text
	}
	if d.Skipped != nil {
		text += fmt.Sprintf(" (not done: %v)", d.Skipped)
	}
	if d.Err != nil {
		text += fmt.Sprintf(" (%v)", d.Err)
	}
	return text
}

// conductor carries out a schedule.
type conductor struct {
	target  *Target
	nemeses map[string]Nemesis
	keeper  *keeper
	// told is called when a step begins and when it has ended.
	told func(Done, bool)

	mu      sync.Mutex
	running map[*Done]chan struct{}
	done    []Done
}

// Run carries out the steps at their times from now on, and returns when all have ended. When the context ends, what is broken
// is mended and the rest is left out. A step whose time has come waits for earlier ones that it must not overlap. told is called
// when a fault begins and when it has ended.
func Run(ctx context.Context, t *Target, nemeses []Nemesis, steps []Step, told func(d Done, ended bool)) []Done {
	c := &conductor{
		target: t, nemeses: map[string]Nemesis{}, told: told, running: map[*Done]chan struct{}{},
		keeper: &keeper{target: t, down: map[string]time.Time{}},
	}
	for _, n := range nemeses {
		c.nemeses[n.Name()] = n
	}
	keepCtx, stopKeeping := context.WithCancel(ctx)
	var kept, group sync.WaitGroup
	kept.Go(func() { c.keeper.keep(keepCtx) })
	began := time.Now()
	for _, step := range steps {
		if !c.wait(ctx, time.Until(began.Add(step.At))) || !c.clear(ctx, c.nemeses[step.Nemesis]) {
			break
		}
		d := &Done{Step: step}
		over := make(chan struct{})
		c.mu.Lock()
		c.running[d] = over
		c.mu.Unlock()
		group.Go(func() {
			c.carryOut(ctx, d)
			c.mu.Lock()
			delete(c.running, d)
			c.done = append(c.done, *d)
			c.mu.Unlock()
			close(over)
		})
	}
	group.Wait()
	stopKeeping()
	kept.Wait()
	return c.done
}

func (c *conductor) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// clear waits until nothing runs that a nemesis must not overlap.
func (c *conductor) clear(ctx context.Context, n Nemesis) bool {
	for {
		over := c.against(n)
		if over == nil {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-over:
		}
	}
}

// against is closed when one of those that run and must not be overlapped is over; nil when there is none.
func (c *conductor) against(n Nemesis) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, over := range c.running {
		if !compatible(c.nemeses[d.Nemesis], n) {
			return over
		}
	}
	return nil
}

// carryOut does one step from its begin to its end.
func (c *conductor) carryOut(ctx context.Context, d *Done) {
	if holds(c.nemeses[d.Nemesis]) {
		c.keeper.own.Lock()
		defer c.keeper.own.Unlock()
	}
	recorder := c.target.Recorder
	random := rand.New(rand.NewPCG(d.Seed, 0)) //nolint:gosec // repeatable, not secret
	fault, err := c.nemeses[d.Nemesis].Choose(ctx, c.target, random)
	if err != nil {
		d.Skipped, d.Began = err, recorder.Now()
		d.Ended = d.Began
		recorder.Event(history.Event{Kind: history.Note, Name: d.Nemesis, Text: "not done: " + err.Error()})
		c.told(*d, true)
		return
	}
	d.Nodes, d.Text, d.Began = fault.Nodes, fault.Text, recorder.Now()
	over := recorder.Event(history.Event{Kind: history.Fault, Name: d.Nemesis, Nodes: fault.Nodes, Text: fault.Text})
	c.told(*d, false)

	if err := fault.Begin(ctx); err != nil {
		d.Err = fmt.Errorf("begin: %w", err)
	}
	if err := c.last(ctx, fault, d.For); err != nil {
		d.Err = errors.Join(d.Err, fmt.Errorf("during: %w", err))
	}
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	if err := fault.End(endCtx); err != nil {
		d.Err = errors.Join(d.Err, fmt.Errorf("end: %w", err))
	}
	over()
	d.Ended = recorder.Now()
	c.told(*d, true)
}

// last lets a fault last, and whatever it goes on doing.
func (c *conductor) last(ctx context.Context, fault *Fault, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var err error
	if fault.During != nil {
		if err = fault.During(ctx); ctx.Err() != nil {
			err = nil // it was told to end
		}
	}
	<-ctx.Done()
	return err
}
