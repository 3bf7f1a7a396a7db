package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/fsm"
)

// Source is the node whose state is kept.
type Source interface {
	ClusterID() string
	State() *fsm.State
	SaveSnapshot(ctx context.Context, w io.Writer) (*fsm.SnapshotInfo, error)
}

// Options of a Manager.
type Options struct {
	Source Source
	Target Target
	// Interval between backups, at least a second.
	Interval  time.Duration
	Retention Retention
	// Timeout bounds one backup. Default: 10 minutes.
	Timeout time.Duration
	// TempDir takes a snapshot before it is sent. Default: the system's.
	TempDir string

	// Now is the present time. Default: time.Now.
	Now func() time.Time
	// Sleep waits, or fails when ctx ends. Default: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter gives a number in [0, 1). Default: at random.
	Jitter     func() float64
	Logger     hclog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return o
}

// Validate reports what is missing or makes no sense.
func (o *Options) Validate() error {
	switch {
	case o.Source == nil || o.Target == nil:
		return errors.New("backup: a source and a target are required")
	case o.Interval < time.Second:
		return fmt.Errorf("backup: an interval of %v is below 1s", o.Interval)
	}
	return o.Retention.Validate()
}

// Manager makes backups of one node's state.
type Manager struct {
	o       Options
	m       *metrics
	running sync.Mutex
}

// New makes a manager. It does nothing by itself.
func New(o Options) (*Manager, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	m, err := newMetrics(o.Registerer, o.Now)
	if err != nil {
		return nil, err
	}
	return &Manager{o: o, m: m}, nil
}

// Target says where the backups are.
func (m *Manager) Target() string { return m.o.Target.String() }

// List gives the backups of this cluster, newest first.
func (m *Manager) List(ctx context.Context) ([]Backup, error) {
	list, err := List(ctx, m.o.Target)
	own := m.o.Source.ClusterID()
	return slices.DeleteFunc(list, func(b Backup) bool { return b.ClusterID != own }), err
}

// Fetch writes a backup of this cluster to w, see the function of that name.
func (m *Manager) Fetch(ctx context.Context, name string, w io.Writer) (*Backup, error) {
	if b, ok := parseName(name, 0); !ok || b.ClusterID != m.o.Source.ClusterID() {
		return nil, fmt.Errorf("%w of this cluster: %.200q", ErrNotFound, name)
	}
	return Fetch(ctx, m.o.Target, name, w)
}

// Schedule makes a backup whenever one is due, until ctx ends. It is the work of
// the leader: RunWhileLeader takes it as it is.
func (m *Manager) Schedule(ctx context.Context, _ uint64) error {
	wait, err := m.due(ctx)
	for {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m.o.Logger.Error("the backup failed", "target", m.o.Target, "error", err)
			wait = min(m.o.Interval, retryAfter)
		}
		if err := m.o.Sleep(ctx, wait+m.spread()); err != nil {
			return err
		}
		wait, err = m.o.Interval, m.attempt(ctx)
	}
}

// retryAfter is how long to wait after a failure, if the interval is not shorter.
const retryAfter = time.Minute

// spread keeps the backups of many clusters from coming at once.
func (m *Manager) spread() time.Duration {
	return time.Duration(m.o.Jitter() * float64(min(m.o.Interval, time.Hour)) / 10)
}

// due gives the time until the next backup: an interval after the last one that
// is there, whichever leader made it.
func (m *Manager) due(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	list, err := m.List(ctx)
	if err != nil {
		m.m.failures.Inc()
		return 0, err
	}
	if len(list) == 0 {
		return 0, nil
	}
	m.m.last.note(list[0].Time)
	return min(max(m.o.Interval-m.o.Now().Sub(list[0].Time), 0), m.o.Interval), nil
}

// attempt makes a backup unless nothing has changed since the last one.
func (m *Manager) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	list, err := m.List(ctx)
	if err == nil && len(list) > 0 && list[0].Index >= m.o.Source.State().Snapshot().Meta().GetAppliedIndex() {
		// It is as good as a new one, if it is still what it was.
		if err = m.verify(ctx, list[0].Name, list[0].Digest); err == nil {
			m.m.last.note(m.o.Now())
			return nil
		}
		m.o.Logger.Warn("the newest backup is damaged, another one is made", "name", list[0].Name, "error", err)
	}
	_, err = m.Run(ctx)
	return err
}

// Run makes a backup now and returns it once it was read back and compared.
func (m *Manager) Run(ctx context.Context) (*Backup, error) {
	m.running.Lock()
	defer m.running.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	b, err := m.make(ctx)
	if err != nil {
		m.m.failures.Inc()
		return nil, err
	}
	m.m.bytes.Set(float64(b.Size))
	m.m.last.note(b.Time)
	m.o.Logger.Info("backup made", "target", m.o.Target, "name", b.Name, "bytes", b.Size, "index", b.Index)
	if err := m.prune(ctx); err != nil {
		m.o.Logger.Warn("old backups could not be removed", "target", m.o.Target, "error", err)
	}
	return b, nil
}

func (m *Manager) make(ctx context.Context) (_ *Backup, err error) {
	f, err := os.CreateTemp(m.o.TempDir, "oaas-pm-*.partial")
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	info, err := m.o.Source.SaveSnapshot(ctx, f)
	if err != nil {
		return nil, err
	}
	if info.ClusterID == "" {
		return nil, errors.New("backup: the cluster has no identity yet")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	at := m.o.Now().UTC().Truncate(time.Millisecond)
	name := nameOf(info.ClusterID, at, info.Index, info.SHA256)
	if err := m.o.Target.Put(ctx, name, f, info.Size); err != nil {
		return nil, err
	}
	if err := m.verify(ctx, name, info.SHA256); err != nil {
		// The context may be what failed.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, m.o.Target.Delete(clean, name))
	}
	b, _ := parseName(name, info.Size)
	return &b, nil
}

// verify reads a backup and compares its digest with what is known of it.
func (m *Manager) verify(ctx context.Context, name, digest string) error {
	_, got, err := copyTo(ctx, io.Discard, m.o.Target, name)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(got, digest) {
		return fmt.Errorf("backup: %s was read back with the SHA-256 %s instead of %s", name, got, digest)
	}
	return nil
}

func (m *Manager) prune(ctx context.Context) error {
	list, err := m.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range m.o.Retention.expired(list, m.o.Now()) {
		if err := m.o.Target.Delete(ctx, b.Name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
