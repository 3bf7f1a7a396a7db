package client

import (
	"context"
	"net/http"
)

// ClusterPolicy is what operators say about an environment. What is left out is not
// said.
type ClusterPolicy struct {
	Labels       map[string]string `json:"labels,omitempty"`
	Region       *string           `json:"region,omitempty"`
	Zone         *string           `json:"zone,omitempty"`
	Provider     string            `json:"provider,omitempty"`
	Taints       []Taint           `json:"taints,omitempty"`
	Cordoned     bool              `json:"cordoned,omitempty"`
	CordonReason string            `json:"cordon_reason,omitempty"`
	Draining     bool              `json:"draining,omitempty"`
	DrainReason  string            `json:"drain_reason,omitempty"`
	// DrainSince is told only.
	DrainSince   string   `json:"drain_since,omitempty"`
	Cost         *float64 `json:"cost,omitempty"`
	Availability *float64 `json:"availability,omitempty"`
	MaxUnits     uint64   `json:"max_units,omitempty"`

	MaxUnitsPerPackage uint64 `json:"max_units_per_package,omitempty"`
	// LatencyMS is the round trip to other environments or to regions, by name.
	LatencyMS map[string]float64 `json:"latency_ms,omitempty"`
}

// Taint keeps deployments that do not tolerate it away from an environment. Effect is
// NoSelect or PreferNoSelect.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// ClusterPolicy gives what operators said about an environment, and its version.
func (c *Client) ClusterPolicy(ctx context.Context, env string) (*ClusterPolicy, string, error) {
	var version string
	out, err := get[*ClusterPolicy](withHeaders(ctx, func(h http.Header) { version = h.Get("ETag") }), c, path("envs", env)+"/policy", nil)
	return out, version, err
}

// SetClusterPolicy replaces it, if it still has that version.
func (c *Client) SetClusterPolicy(ctx context.Context, env string, p *ClusterPolicy, version string) (*ClusterPolicy, error) {
	return send[ClusterPolicy](withMatch(ctx, version), c, http.MethodPut, path("envs", env)+"/policy", nil, p)
}
