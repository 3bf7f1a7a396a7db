package discovery

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Source is where a candidate comes from.
type Source string

const (
	// SourceStatic candidates were configured by the operator.
	SourceStatic Source = "static"
	// SourceGossip candidates announced themselves.
	SourceGossip Source = "gossip"
)

// Candidate is a CRM that may exist. Candidates are values: comparing two with
// == says whether anything changed, except that TLS compares by identity.
type Candidate struct {
	// Name of the cluster.
	Name string
	// Address of the CRM's gRPC service: host:port, or https://host:port where it
	// speaks TLS; see SplitAddress. Whether it does is a part of the address, so that
	// a CRM that turns to TLS, or back, is one that moved.
	Address string
	Source  Source
	// Timeout bounds one health check; 0 leaves it to the caller.
	Timeout time.Duration
	// RetryAttempts is how often a health check is tried.
	RetryAttempts uint32
	// TLS is nil unless it was configured, and counts for addresses that begin with
	// https:// only.
	TLS *TLS

	// Region, Zone and Version are what the CRM says about itself; gossip only.
	Region  string
	Zone    string
	Version string
	// Instance tells apart the processes that announced the same cluster; later
	// starts compare greater. Gossip only.
	Instance string
}

// TLS is how to connect to one CRM. What is empty is as for all of them.
type TLS struct {
	// CACert, ClientCert and ClientKey name files with PEM blocks.
	CACert     string
	ClientCert string
	ClientKey  string
	// ServerName is the name that the CRM's certificate must have.
	ServerName string
	// Insecure accepts any server certificate.
	Insecure bool
}

// secureScheme begins the addresses of CRMs that speak TLS.
const secureScheme = "https://"

// SplitAddress takes an address apart: host:port, and whether TLS is spoken there.
func SplitAddress(address string) (hostPort string, secure bool) {
	return strings.CutPrefix(address, secureScheme)
}

// joinAddress is the opposite of SplitAddress.
func joinAddress(hostPort string, secure bool) string {
	if secure {
		return secureScheme + hostPort
	}
	return hostPort
}

// Merge is the candidates of both sources, sorted by name. A name that is
// configured statically is not looked up in gossip. Several candidates of one
// name follow each other, the newest first.
func Merge(static, gossip []Candidate) []Candidate {
	configured := make(map[string]bool, len(static))
	for i := range static {
		configured[static[i].Name] = true
	}
	out := slices.Clone(static)
	for i := range gossip {
		if !configured[gossip[i].Name] {
			out = append(out, gossip[i])
		}
	}
	sortCandidates(out)
	return out
}

func sortCandidates(all []Candidate) {
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(
			strings.Compare(a.Name, b.Name),
			strings.Compare(b.Instance, a.Instance),
			strings.Compare(a.Address, b.Address),
		)
	})
}

// Directory serves the merged candidates.
type Directory struct {
	static   []Candidate
	observer *Observer
}

// NewDirectory merges static candidates with those of an observer, which may be
// nil where nothing gossips.
func NewDirectory(static []Candidate, observer *Observer) *Directory {
	return &Directory{static: slices.Clone(static), observer: observer}
}

// Candidates is the current list; see Merge.
func (d *Directory) Candidates() []Candidate {
	if d.observer == nil {
		return Merge(d.static, nil)
	}
	return Merge(d.static, d.observer.Candidates())
}

// Changed is signalled after the list may have changed; see Observer.Changed.
// Without an observer it never is.
func (d *Directory) Changed() <-chan struct{} {
	if d.observer == nil {
		return nil
	}
	return d.observer.Changed()
}
