package liveness

import (
	"fmt"
	"time"
)

// Limits are the deadlines of the detector.
type Limits struct {
	// Renewal is how often a cluster that is well is heard at least, and how often another
	// node is asked for one that is not. Default 5 s.
	Renewal time.Duration
	// Suspect, Unreachable and Eligible are after how much silence a cluster becomes what
	// they are called. Defaults 15 s, 30 s and 5 min.
	Suspect, Unreachable, Eligible time.Duration
	// Return is for how long a cluster has to be in contact without a break to count as
	// back. Default 10 s.
	Return time.Duration
	// Skew is by how much the clocks of two leaders may differ. Default 5 s.
	Skew time.Duration
	// Unconfirmed lets a cluster be FailoverEligible although no other node has tried to
	// reach it, as where there is none. One that reaches it prevents that all the same.
	Unconfirmed bool
}

// WithDefaults gives the limits with defaults in place of zeros.
func (l Limits) WithDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Renewal, 5 * time.Second},
		{&l.Suspect, 15 * time.Second},
		{&l.Unreachable, 30 * time.Second},
		{&l.Eligible, 5 * time.Minute},
		{&l.Return, 10 * time.Second},
		{&l.Skew, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// Validate refuses limits that are not in order; zeros stand for their defaults.
func (l Limits) Validate() error {
	l = l.WithDefaults()
	switch {
	case l.Renewal < 0 || l.Return < 0 || l.Skew < 0:
		return fmt.Errorf("renewal %s, return %s and skew %s must not be negative", l.Renewal, l.Return, l.Skew)
	case l.Renewal >= l.Suspect:
		return fmt.Errorf("suspect after %s must be more than renewal %s", l.Suspect, l.Renewal)
	case l.Suspect >= l.Unreachable:
		return fmt.Errorf("unreachable after %s must be more than suspect after %s", l.Unreachable, l.Suspect)
	case l.Unreachable >= l.Eligible:
		return fmt.Errorf("eligible for failover after %s must be more than unreachable after %s", l.Eligible, l.Unreachable)
	}
	return nil
}
