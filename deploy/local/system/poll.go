package system

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fatalError ends a Poll.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// Fatal marks an error as one that waiting cannot heal.
func Fatal(err error) error { return fatalError{err} }

// Poll asks again and again until done. Its error names what was waited for and why the last answer was not good enough. An
// error marked with Fatal ends it at once.
func Poll(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		var fatal fatalError
		if errors.As(err, &fatal) {
			return fmt.Errorf("wait until %s: %w", what, fatal.error)
		}
		// The error of a request that the end of the wait cut off says less than the one before it.
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
			}
			return fmt.Errorf("wait until %s: %w; last: %w", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}
