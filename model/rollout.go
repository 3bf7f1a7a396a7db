package model

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// RolloutStrategy says how a change of a deployment goes out to the environments that
// run it: some at a time, each judged by its own runtime before others follow. It is an
// extension of the wire format: a deployment without one changes everywhere at once and
// has the bytes that it always had.
type RolloutStrategy struct {
	// Canary is how many environments come first; empty means none.
	Canary Amount
	// MaxUnavailable is how many environments may be unavailable meanwhile, for whatever
	// reason; empty means 1.
	MaxUnavailable Amount
	// MinHealthyTime is how long an environment must be available before others follow,
	// in Go's form; empty means DefaultMinHealthyTime.
	MinHealthyTime string
	// ProgressDeadline is how long a wave may take, in Go's form; empty means
	// DefaultProgressDeadline.
	ProgressDeadline string
	OnFailure        FailurePolicy
}

// Amount is a number of environments, such as 2, or a share of them, such as 25%.
type Amount string

// FailurePolicy says what becomes of a rollout that has failed.
type FailurePolicy string

// The policies.
const (
	// OnFailureKeep stops and leaves every environment as it is; the default.
	OnFailureKeep FailurePolicy = "keep"
	// OnFailureRollback takes all environments back to what they ran before.
	OnFailureRollback FailurePolicy = "rollback"
)

// What a strategy means that leaves it out.
const (
	DefaultMinHealthyTime   = 10 * time.Second
	DefaultProgressDeadline = 10 * time.Minute
)

// The limits of a strategy.
const (
	maxRolloutEnvs      = 1000
	maxMinHealthyTime   = 24 * time.Hour
	minProgressDeadline = time.Second
	maxProgressDeadline = 7 * 24 * time.Hour
)

// Of gives the number of environments that the amount means when there are n. A share is
// rounded down, or up if up is set. ok is false for what is no amount.
func (a Amount) Of(n int, up bool) (count int, ok bool) {
	if !amountForm.MatchString(string(a)) {
		return 0, false
	}
	number, percent := strings.CutSuffix(string(a), "%")
	value, err := strconv.Atoi(number)
	if err != nil {
		return 0, false
	}
	if !percent {
		return value, true
	}
	if up {
		return (n*value + 99) / 100, true
	}
	return n * value / 100, true
}

// MinHealthy gives the least time for which an environment must be available.
func (s *RolloutStrategy) MinHealthy() time.Duration {
	return durationOr(s.MinHealthyTime, DefaultMinHealthyTime)
}

// Deadline gives the time that a wave may take.
func (s *RolloutStrategy) Deadline() time.Duration {
	return durationOr(s.ProgressDeadline, DefaultProgressDeadline)
}

func durationOr(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return otherwise
}

// amountForm is a canonical number, with or without a percent sign.
var amountForm = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,3})%?$`)

// amountCodec writes a number as a number and a share as a text.
type amountCodec struct{ scalar[Amount] }

func (amountCodec) decode(n *node, v *Amount) *DecodeError {
	const want = `a number of environments, such as 2, or a share of them, such as "25%"`
	text := n.number
	if n.kind == nodeString && strings.HasSuffix(n.text, "%") {
		text = n.text
	}
	if n.kind != nodeNumber && n.kind != nodeString {
		return mismatch(n, want)
	}
	if !amountForm.MatchString(text) {
		return schemaError(n, "must be %s, got %s", want, clip(n.text))
	}
	*v = Amount(text)
	return nil
}

func (amountCodec) append(b []byte, v *Amount) ([]byte, error) {
	switch {
	case !amountForm.MatchString(string(*v)):
		return b, fmt.Errorf("%q is no amount", string(*v))
	case strings.HasSuffix(string(*v), "%"):
		return appendString(b, string(*v)), nil
	default:
		return append(b, *v...), nil
	}
}

var (
	amount        codec[Amount] = amountCodec{}
	failurePolicy               = enum(OnFailureKeep, OnFailureRollback).firstIsDefault()
)

// The field table. The order of the lines is the order of the JSON form.
var rolloutTable = object(
	def("canary", amount, func(s *RolloutStrategy) *Amount { return &s.Canary }).omit(),
	def("max_unavailable", amount, func(s *RolloutStrategy) *Amount { return &s.MaxUnavailable }).omit(),
	def("min_healthy_time", text, func(s *RolloutStrategy) *string { return &s.MinHealthyTime }).omit(),
	def("progress_deadline", text, func(s *RolloutStrategy) *string { return &s.ProgressDeadline }).omit(),
	def("on_failure", failurePolicy, func(s *RolloutStrategy) *FailurePolicy { return &s.OnFailure }),
)

// MarshalJSON implements json.Marshaler.
func (s RolloutStrategy) MarshalJSON() ([]byte, error) { return encode(rolloutTable, &s) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *RolloutStrategy) UnmarshalJSON(data []byte) error {
	return decodeInto(rolloutTable, string(data), s)
}

// Clone copies deeply.
func (s RolloutStrategy) Clone() *RolloutStrategy { return cloneOf(rolloutTable, &s) }

// rollout checks a strategy.
func (c *checker) rollout(at string, s *RolloutStrategy) {
	if s == nil {
		return
	}
	c.amount(at+".canary", s.Canary, 0)
	c.amount(at+".max_unavailable", s.MaxUnavailable, 1)
	healthy := c.duration(at+".min_healthy_time", s.MinHealthyTime, 0, maxMinHealthyTime)
	deadline := c.duration(at+".progress_deadline", s.ProgressDeadline, minProgressDeadline, maxProgressDeadline)
	if healthy && deadline && s.MinHealthy() >= s.Deadline() {
		c.add(at+".progress_deadline", "is %s; it must be more than min_healthy_time, which is %s: no wave could end in time", s.Deadline(), s.MinHealthy())
	}
}

func (c *checker) amount(at string, a Amount, least int) {
	if a == "" {
		return
	}
	number, percent := strings.CutSuffix(string(a), "%")
	value, err := strconv.Atoi(number)
	most, sign := maxRolloutEnvs, ""
	if percent {
		most, sign = 100, "%"
	}
	if err != nil || value < least || value > most {
		c.add(at, "must be within %d%s..%d%s, got %s", least, sign, most, sign, clip(string(a)))
	}
}

// duration reports whether a text is a duration in range, or left out.
func (c *checker) duration(at, text string, least, most time.Duration) bool {
	if text == "" {
		return true
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		c.add(at, "%q is not a duration within %s..%s; write for instance 30s or 10m", clip(text), least, most)
		return false
	}
	return true
}
