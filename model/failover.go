package model

import "time"

// FailoverPolicy says what becomes of a deployment when an environment that it runs in is
// lost. It is an extension of the wire format: a deployment without one is not moved and has
// the bytes that it always had.
type FailoverPolicy struct {
	Mode FailoverMode
	// After is how long the environment must have been unreachable, in Go's form; empty means
	// DefaultFailoverAfter.
	After string
	// MaxPerHour is how often the deployment is moved for that within any hour; nil means
	// DefaultMaxFailovers.
	MaxPerHour *uint32
	OnReturn   ReturnPolicy
}

// FailoverMode says whether a deployment is moved at all.
type FailoverMode string

// The modes.
const (
	// FailoverOff leaves it where it is; the default.
	FailoverOff FailoverMode = "off"
	// FailoverAutomatic moves it.
	FailoverAutomatic FailoverMode = "automatic"
)

// ReturnPolicy says what becomes of a deployment when an environment that it was moved away
// from comes back.
type ReturnPolicy string

// The policies.
const (
	// OnReturnStay leaves it where it is; the default.
	OnReturnStay ReturnPolicy = "stay"
	// OnReturnMoveBack plans it anew, with the environment as a preferred one.
	OnReturnMoveBack ReturnPolicy = "return"
)

// What a policy means that leaves it out.
const (
	DefaultFailoverAfter = 5 * time.Minute
	DefaultMaxFailovers  = 2
)

// The limits of a policy.
const (
	maxFailoverAfter = 24 * time.Hour
	maxFailovers     = 10
)

// Automatic reports that the deployment is moved when an environment is lost. Without a
// policy it is not.
func (p *FailoverPolicy) Automatic() bool { return p != nil && p.Mode == FailoverAutomatic }

// Wait gives for how long an environment must have been unreachable.
func (p *FailoverPolicy) Wait() time.Duration { return durationOr(p.After, DefaultFailoverAfter) }

// PerHour gives how often it is moved within an hour.
func (p *FailoverPolicy) PerHour() int {
	if p.MaxPerHour == nil {
		return DefaultMaxFailovers
	}
	return int(*p.MaxPerHour)
}

var (
	failoverMode = enum(FailoverOff, FailoverAutomatic).firstIsDefault()
	returnPolicy = enum(OnReturnStay, OnReturnMoveBack).firstIsDefault()
)

// The field table. The order of the lines is the order of the JSON form.
var failoverTable = object(
	def("mode", failoverMode, func(p *FailoverPolicy) *FailoverMode { return &p.Mode }),
	def("after", text, func(p *FailoverPolicy) *string { return &p.After }).omit(),
	nul("max_per_hour", number32, func(p *FailoverPolicy) **uint32 { return &p.MaxPerHour }).omit(),
	def("on_return", returnPolicy, func(p *FailoverPolicy) *ReturnPolicy { return &p.OnReturn }),
)

// MarshalJSON implements json.Marshaler.
func (p FailoverPolicy) MarshalJSON() ([]byte, error) { return encode(failoverTable, &p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *FailoverPolicy) UnmarshalJSON(data []byte) error {
	return decodeInto(failoverTable, string(data), p)
}

// Clone copies deeply.
func (p FailoverPolicy) Clone() *FailoverPolicy { return cloneOf(failoverTable, &p) }

// failover checks a policy.
func (c *checker) failover(at string, p *FailoverPolicy) {
	if p == nil {
		return
	}
	c.duration(at+".after", p.After, 0, maxFailoverAfter)
	if p.MaxPerHour != nil && (*p.MaxPerHour < 1 || *p.MaxPerHour > maxFailovers) {
		c.add(at+".max_per_hour", "must be within 1..%d, got %d; mode off never moves it", maxFailovers, *p.MaxPerHour)
	}
}
