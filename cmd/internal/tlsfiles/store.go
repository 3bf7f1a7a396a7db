package tlsfiles

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultInterval is between two looks at the files.
const DefaultInterval = 10 * time.Second

// Options configure a Store.
type Options struct {
	// Namespace begins the names of the metrics, such as "oaas_crm".
	Namespace string
	// Logger is told of every change.
	Logger hclog.Logger
	// Interval between two looks at the files. Default DefaultInterval.
	Interval time.Duration
	// Clock defaults to time.Now.
	Clock func() time.Time
}

// Store holds the certificates of a program. It is a collector of their metrics.
type Store struct {
	opts   Options
	expiry *prometheus.Desc
	reload *prometheus.CounterVec

	mu      sync.Mutex
	pairs   map[[2]string]*KeyPair
	pools   map[string]*Pool
	entries []entry
}

// entry is one certificate or bundle.
type entry interface {
	// name is the first of its files.
	name() string
	// look reads the files and takes in what they hold.
	look()
	// expires is when the last of what is in use is no longer valid.
	expires() time.Time
}

// New makes a Store without files.
func New(opts Options) *Store {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	if opts.Interval <= 0 {
		opts.Interval = DefaultInterval
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	return &Store{
		opts: opts, pairs: map[[2]string]*KeyPair{}, pools: map[string]*Pool{},
		expiry: prometheus.NewDesc(opts.Namespace+"_tls_certificate_expiry_timestamp_seconds",
			"When the certificate in use, or the last one of a bundle of authorities, is no longer valid, by file.", []string{"file"}, nil),
		reload: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: opts.Namespace + "_tls_reloads_total",
			Help: "Changes of certificate files, by outcome: loaded, or failed, when what was there before stays in use.",
		}, []string{"file", "outcome"}),
	}
}

// KeyPair reads a certificate chain and its key. The same files are the same pair.
func (s *Store) KeyPair(cert, key string) (*KeyPair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pairs[[2]string{cert, key}]; p != nil {
		return p, nil
	}
	p := &KeyPair{material{store: s, files: []string{cert, key}, parse: parseKeyPair}}
	if err := s.addLocked(p, &p.material); err != nil {
		return nil, err
	}
	s.pairs[[2]string{cert, key}] = p
	return p, nil
}

// Pool reads a bundle of authorities. The same file is the same bundle.
func (s *Store) Pool(file string) (*Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[file]; p != nil {
		return p, nil
	}
	p := &Pool{material{store: s, files: []string{file}, parse: parsePool}}
	if err := s.addLocked(p, &p.material); err != nil {
		return nil, err
	}
	s.pools[file] = p
	return p, nil
}

// addLocked reads an entry for the first time, and remembers it.
func (s *Store) addLocked(e entry, m *material) error {
	if err := m.load(); err != nil {
		return err
	}
	for _, outcome := range []string{outcomeLoaded, outcomeFailed} {
		s.reload.WithLabelValues(e.name(), outcome) // both are there from the start, so that a rate can be taken
	}
	if now := s.opts.Clock(); !m.current().valid(now) {
		// That nobody can connect is no reason not to start: a renewed one is taken as
		// soon as it is there.
		s.opts.Logger.Warn("certificate is not valid now", "file", e.name(), "not_before", m.current().notBefore, "not_after", m.current().notAfter)
	}
	s.entries = append(s.entries, e)
	return nil
}

// Run looks at the files until ctx ends.
func (s *Store) Run(ctx context.Context) {
	ticker := time.NewTicker(s.opts.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, e := range s.all() {
			e.look()
		}
	}
}

func (s *Store) all() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]entry(nil), s.entries...)
}

// Describe implements prometheus.Collector.
func (s *Store) Describe(to chan<- *prometheus.Desc) {
	to <- s.expiry
	s.reload.Describe(to)
}

// Collect implements prometheus.Collector.
func (s *Store) Collect(to chan<- prometheus.Metric) {
	told := map[string]bool{}
	for _, e := range s.all() {
		// One file may be of two entries, and has one metric.
		if !told[e.name()] {
			told[e.name()] = true
			to <- prometheus.MustNewConstMetric(s.expiry, prometheus.GaugeValue, float64(e.expires().Unix()), e.name())
		}
	}
	s.reload.Collect(to)
}

// Sides are the files of one side of a connection; empty names are files that there
// are none of.
type Sides struct {
	// Cert and Key are a certificate and its key, CA is a bundle of authorities.
	Cert, Key, CA string
}

// Load reads what a side has; what it does not have is nil.
func (s *Store) Load(f Sides) (pair *KeyPair, pool *Pool, err error) {
	if f.Cert != "" {
		if pair, err = s.KeyPair(f.Cert, f.Key); err != nil {
			return nil, nil, fmt.Errorf("certificate: %w", err)
		}
	}
	if f.CA != "" {
		if pool, err = s.Pool(f.CA); err != nil {
			return nil, nil, fmt.Errorf("authorities: %w", err)
		}
	}
	return pair, pool, nil
}
