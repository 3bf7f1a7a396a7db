package discovery

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Source is where a candidate comes from.
type Source string

const (
	// SourceStatic candidates were configured by the operator.
	SourceStatic Source = "static"
	// SourceGossip candidates announced themselves.
	SourceGossip Source = "gossip"
	// SourceAgent candidates are connected to the control plane themselves.
	SourceAgent Source = "agent"
)

// Candidate is a CRM that may exist. Candidates are values: comparing two with
// == says whether anything changed, except that TLS compares by identity.
type Candidate struct {
	// Name of the cluster.
	Name string
	// Address of the CRM's gRPC service: host:port, or https://host:port where it
	// speaks TLS; see SplitAddress. Whether it does is a part of the address, so that
	// a CRM that turns to TLS, or back, is one that moved. That of an agent is
	// agent://uid with the cluster's UID; see AgentAddress.
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
	// starts compare greater. Gossip only: those of an agent are one candidate.
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

// agentScheme begins the addresses of agents. No host:port contains a slash.
const agentScheme = "agent://"

// AgentAddress is where a cluster is reached by the connections that its own manager
// has made: wherever those are, and however often they are made anew, it is the same.
func AgentAddress(uid string) string { return agentScheme + uid }

// AgentUID is the opposite of AgentAddress.
func AgentUID(address string) (uid string, isAgent bool) {
	return strings.CutPrefix(address, agentScheme)
}

// Merge is the candidates of all sources, sorted by name. A name that is configured
// statically is not looked for elsewhere. Several candidates of one name follow each
// other, the best first: an agent is connected already, whereas what gossip says is
// still to be reached; of what gossip says the newest comes first.
func Merge(static, others []Candidate) []Candidate {
	configured := make(map[string]bool, len(static))
	for i := range static {
		configured[static[i].Name] = true
	}
	out := slices.Clone(static)
	for i := range others {
		if !configured[others[i].Name] {
			out = append(out, others[i])
		}
	}
	sortCandidates(out)
	return out
}

func sortCandidates(all []Candidate) {
	rank := func(c Candidate) int {
		if c.Source == SourceGossip {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(
			strings.Compare(a.Name, b.Name),
			cmp.Compare(rank(a), rank(b)),
			strings.Compare(b.Instance, a.Instance),
			strings.Compare(a.Address, b.Address),
		)
	})
}

// Finder is a source of candidates that come and go, such as an Observer.
type Finder interface {
	Candidates() []Candidate
	// Changed is signalled after Candidates may have changed. Signals are coalesced,
	// and each goes to one receiver.
	Changed() <-chan struct{}
}

// Directory serves the merged candidates.
type Directory struct {
	static  []Candidate
	finders []Finder
	changed chan struct{}
}

// NewDirectory merges static candidates with those that are found. It takes the
// finders' signals while Run runs.
func NewDirectory(static []Candidate, finders ...Finder) *Directory {
	return &Directory{static: slices.Clone(static), finders: finders, changed: make(chan struct{}, 1)}
}

// Run passes on the finders' signals until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	var passing sync.WaitGroup
	for _, f := range d.finders {
		passing.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-f.Changed():
					signal(d.changed)
				}
			}
		})
	}
	passing.Wait()
}

// Candidates is the current list; see Merge.
func (d *Directory) Candidates() []Candidate {
	var found []Candidate
	for _, f := range d.finders {
		found = append(found, f.Candidates()...)
	}
	return Merge(d.static, found)
}

// Changed is signalled after the list may have changed.
func (d *Directory) Changed() <-chan struct{} { return d.changed }
