package scheduler

import (
	"fmt"

	"oaas.io/control-plane/scheduler/solver"
)

// Kind is what it takes for a deployment to be available.
type Kind string

// The kinds. The zero value is Quorum.
const (
	// Quorum needs a majority of its clusters: state that is strongly consistent.
	Quorum Kind = ""
	// Eventual needs one: each holds the state, and they agree later.
	Eventual Kind = "eventual"
	// Stateless needs one, as there is nothing to agree on.
	Stateless Kind = "stateless"
)

func (k Kind) String() string {
	if k == Quorum {
		return "quorum"
	}
	return string(k)
}

// MarshalText writes the name of the kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name of a kind.
func (k *Kind) UnmarshalText(text []byte) error {
	switch name := Kind(text); name {
	case Eventual, Stateless:
		*k = name
	case "quorum", Quorum:
		*k = Quorum
	default:
		return &InvalidInputError{Field: "kind", Problem: fmt.Sprintf("%q is none", text)}
	}
	return nil
}

func (k Kind) valid() bool { return k == Quorum || k == Eventual || k == Stateless }

func (k Kind) rule() solver.Rule {
	if k == Quorum {
		return solver.Majority
	}
	return solver.Any
}

// Stability is what becomes of a deployment that runs where it meets its target, when
// there is a better place.
type Stability string

// The policies. The zero value is Keep.
const (
	// Keep stays. What is better is told in the plan.
	Keep Stability = ""
	// Rebalance moves if it is worth while.
	Rebalance Stability = "rebalance"
)

// Preference is which of the sets that meet the target is the best.
type Preference string

// The preferences. By default the cheapest set is the best if the price of every
// usable cluster is known, and the smallest one else.
const (
	ByDefault Preference = ""
	Fewest    Preference = "fewest"
	// Cheapest takes the dearest known price for those that are not known.
	Cheapest Preference = "cheapest"
)
