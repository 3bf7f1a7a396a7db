package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/proto/pmpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// source is a state machine without a node.
type source struct {
	t     testing.TB
	state *fsm.State
	index uint64
}

func newSource(t testing.TB, cluster string) *source {
	state, err := fsm.NewState()
	if err != nil {
		t.Fatal(err)
	}
	s := &source{t: t, state: state}
	s.apply(&pmpb.Command{Op: &pmpb.Command_Found{Found: &pmpb.Found{ClusterId: cluster}}})
	return s
}

func (s *source) apply(cmd *pmpb.Command) {
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.index++
	if res := s.state.Apply(s.index, 1, data); res.Err != nil {
		s.t.Fatal(res.Err)
	}
}

func (s *source) change() {
	s.apply(&pmpb.Command{Op: &pmpb.Command_PutCluster{PutCluster: &pmpb.PutCluster{Cluster: &pmpb.Cluster{Name: fmt.Sprint("c", s.index)}}}})
}

func (s *source) ClusterID() string { return s.state.Snapshot().Meta().GetClusterId() }
func (s *source) State() *fsm.State { return s.state }

func (s *source) SaveSnapshot(_ context.Context, w io.Writer) (*fsm.SnapshotInfo, error) {
	return s.state.Snapshot().Save(w)
}

// faulty is a target that can be made to fail and to lie.
type faulty struct {
	Target
	fail    error
	corrupt bool
}

func (f *faulty) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if f.fail != nil {
		return f.fail
	}
	if f.corrupt {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		r = bytes.NewReader(data)
	}
	return f.Target.Put(ctx, name, r, size)
}

// bench is a manager whose time only passes when it sleeps.
type bench struct {
	*Manager
	source *source
	target *faulty
	dir    string
	now    time.Time
	slept  []time.Duration
	reg    *prometheus.Registry
}

func newBench(t *testing.T, edit func(*Options)) *bench {
	t.Helper()
	b := &bench{source: newSource(t, "cluster-1"), dir: t.TempDir(), now: start, reg: prometheus.NewRegistry()}
	dir, err := Dir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	b.target = &faulty{Target: dir}
	o := Options{
		Source: b.source, Target: b.target, Interval: time.Hour, Retention: Retention{Last: 3}, TempDir: t.TempDir(),
		Now: func() time.Time { return b.now }, Jitter: func() float64 { return 0 }, Registerer: b.reg,
	}
	if edit != nil {
		edit(&o)
	}
	if b.Manager, err = New(o); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) names(t *testing.T) []string {
	t.Helper()
	objects, err := b.target.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		out = append(out, o.Name)
	}
	slices.Sort(out)
	return out
}

func targets(t *testing.T) map[string]Target {
	server := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithAutoBucket(true)).Server())
	t.Cleanup(server.Close)
	s3, err := Open("s3://backups/some/where?path-style=true&region=here&endpoint="+server.URL, Credentials{AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s3.(*bucket).client.CredContext().Client.CloseIdleConnections)
	dir, err := Open(filepath.Join(t.TempDir(), "made"), Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Target{"directory": dir, "s3": s3}
}

func TestTargetsKeepWhatTheyAreGiven(t *testing.T) {
	for kind, target := range targets(t) {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			data := bytes.Repeat([]byte("0123456789"), 100_000)
			if err := target.Put(ctx, "a.snapshot", bytes.NewReader(data), int64(len(data))); err != nil {
				t.Fatal(err)
			}
			if err := target.Put(ctx, "b.snapshot", strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
			r, err := target.Get(ctx, "a.snapshot")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read %d of %d bytes, %v", len(got), len(data), err)
			}
			if list, err := target.List(ctx); err != nil || len(list) != 2 {
				t.Fatalf("list %v, %v", list, err)
			}
			for range 2 { // deleting is idempotent
				if err := target.Delete(ctx, "a.snapshot"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := target.Get(ctx, "a.snapshot"); !errors.Is(err, ErrNotFound) {
				t.Fatalf("what is gone gives %v", err)
			}
			if err := target.Put(ctx, "short.snapshot", strings.NewReader("x"), 2); err == nil {
				t.Fatal("half a file was stored")
			}
			if list, err := target.List(ctx); err != nil || len(list) != 1 || list[0] != (Object{"b.snapshot", 1}) {
				t.Fatalf("list %v, %v", list, err)
			}
		})
	}
}

func TestRunOnBothTargets(t *testing.T) {
	for kind, target := range targets(t) {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Target = target })
			for range 5 {
				b.source.change()
				made, err := b.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if made.Index != b.source.index || made.ClusterID != "cluster-1" {
					t.Fatalf("%+v", made)
				}
				b.now = b.now.Add(time.Minute)
			}
			list, err := b.List(t.Context())
			if err != nil || len(list) != 3 || list[0].Index != b.source.index {
				t.Fatalf("kept are %v, %v", list, err)
			}
			var file bytes.Buffer
			got, err := b.Fetch(t.Context(), list[0].Name, &file)
			if err != nil || got.Size != int64(file.Len()) || got.Index != b.source.index || !strings.HasPrefix(got.Digest, list[0].Digest) {
				t.Fatalf("%+v, %v", got, err)
			}
			if info, err := fsm.VerifySnapshot(&file); err != nil || info.Index != b.source.index {
				t.Fatalf("%+v, %v", info, err)
			}
		})
	}
}

func TestRetentionTouchesOnlyItsOwn(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Retention = Retention{Last: 1} })
	foreign := []string{
		"notes.txt", "oaas-pm_cluster-1_x_y_z.snapshot", nameOf("cluster-2", start.AddDate(-1, 0, 0), 1, strings.Repeat("a", 64)),
		nameOf("cluster-1", start, 1, strings.Repeat("a", 64)) + ".old",
	}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(b.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		b.source.change()
		if _, err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Hour)
	}
	left := b.names(t)
	if len(left) != len(foreign)+1 {
		t.Fatalf("left are %q", left)
	}
	for _, name := range foreign {
		if !slices.Contains(left, name) {
			t.Errorf("%s was deleted", name)
		}
	}
}

func TestADamagedBackupReplacesNothing(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Retention = Retention{Last: 1} })
	if _, err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := b.names(t)
	b.source.change()
	b.now = b.now.Add(time.Hour)
	b.target.corrupt = true
	if _, err := b.Run(t.Context()); err == nil {
		t.Fatal("a backup that reads back differently was accepted")
	}
	if left := b.names(t); !slices.Equal(left, good) {
		t.Fatalf("left are %q, want %q", left, good)
	}
	if n := testutil.ToFloat64(b.m.failures); n != 1 {
		t.Errorf("%v failures counted", n)
	}
	want := fmt.Sprintf("# HELP oaas_pm_backup_last_success_age_seconds Age of that. 0 when there is none.\n# TYPE oaas_pm_backup_last_success_age_seconds gauge\noaas_pm_backup_last_success_age_seconds %d\n", 3600)
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "oaas_pm_backup_last_success_age_seconds"); err != nil {
		t.Error(err)
	}
}

func TestRetention(t *testing.T) {
	var all []Backup // every six hours for ten days, newest first
	for i := range 40 {
		all = append(all, Backup{Name: fmt.Sprint(i), Time: start.Add(-time.Duration(i) * 6 * time.Hour)})
	}
	for _, c := range []struct {
		keep Retention
		want int
	}{
		{Retention{Last: 1}, 1}, {Retention{Last: 5}, 5}, {Retention{}, 1}, {Retention{Last: 100}, 40},
		{Retention{Last: 1, Days: 1}, 1}, {Retention{Last: 1, Days: 4}, 4}, {Retention{Last: 4, Days: 4}, 4 + 2},
	} {
		gone := c.keep.expired(all, start)
		if got := len(all) - len(gone); got != c.want {
			t.Errorf("%+v keeps %d, want %d", c.keep, got, c.want)
		}
		if slices.ContainsFunc(gone, func(b Backup) bool { return b.Name == "0" }) {
			t.Errorf("%+v deletes the newest", c.keep)
		}
	}
	if (Retention{}).expired(nil, start) != nil {
		t.Error("nothing expires from nothing")
	}
}

// The schedule goes by what is in the target, skips when nothing has changed,
// and tries again soon after a failure.
func TestSchedule(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var b *bench
	var steps []func()
	b = newBench(t, func(o *Options) {
		o.Sleep = func(ctx context.Context, d time.Duration) error {
			b.slept = append(b.slept, d)
			b.now = b.now.Add(d)
			if len(steps) == 0 {
				cancel()
			} else {
				steps[0]()
				steps = steps[1:]
			}
			return ctx.Err()
		}
	})
	b.target.fail = errors.New("no room")
	steps = []func(){
		func() {},                      // due at once, fails
		func() { b.target.fail = nil }, // tried again soon
		func() {},                      // nothing has changed
		func() { b.source.change() },   // changed
	}
	if err := b.Schedule(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if want := []time.Duration{0, time.Minute, time.Hour, time.Hour, time.Hour}; !slices.Equal(b.slept, want) {
		t.Errorf("slept %v, want %v", b.slept, want)
	}
	if n := len(b.names(t)); n != 2 {
		t.Errorf("%d backups, want 2", n)
	}

	// The next leader goes on where this one was.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	b.slept, b.now = nil, b.now.Add(-30*time.Minute)
	if err := b.Schedule(ctx, 2); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(b.slept) == 0 || b.slept[0] != 30*time.Minute {
		t.Errorf("the next leader slept %v", b.slept)
	}
}

// What is fetched is a backup, of the cluster that asks, and the one that was stored.
func TestFetchRefuses(t *testing.T) {
	b := newBench(t, nil)
	made, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	foreign := nameOf("cluster-2", start, 1, strings.Repeat("a", 64))
	for name, data := range map[string]string{foreign: "x", "secret.txt": "x"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "secret.txt", "../secret.txt", foreign, strings.Replace(made.Name, made.Digest, "0000000000000000", 1)} {
		if _, err := b.Fetch(t.Context(), name, io.Discard); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if list, err := List(t.Context(), b.o.Target); err != nil || len(list) != 2 {
		t.Errorf("of all clusters there are %v, %v", list, err)
	}
	if _, err := Fetch(t.Context(), b.o.Target, foreign, io.Discard); !errors.Is(err, ErrDamaged) {
		t.Errorf("a backup with other bytes: %v", err)
	}
}

// A reader makes no directory where there is none.
func TestOpenExisting(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for address, ok := range map[string]bool{dir: true, "file://" + dir: true, missing: false, "relative": false, "ftp://x": false} {
		if _, err := OpenExisting(address, Credentials{}); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory was made")
	}
}

// The newest backup is looked at again before it counts as one of today.
func TestADamagedNewestBackupIsMadeAgain(t *testing.T) {
	b := newBench(t, nil)
	if _, err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, b.names(t)[0]), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	if err := b.attempt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.names(t)); n != 2 {
		t.Fatalf("%d backups, want another one", n)
	}
}

// TestRefusals: what only another setting cures is told from what may pass.
func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		code    string
		refused bool
	}{
		"wrong secret": {http.StatusForbidden, "SignatureDoesNotMatch", true},
		"unknown key":  {http.StatusForbidden, "InvalidAccessKeyId", true},
		"no bucket":    {http.StatusNotFound, "NoSuchBucket", true},
		"no object":    {http.StatusNotFound, "NoSuchKey", false},
		"conflict":     {http.StatusConflict, "OperationAborted", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(tt.status)
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", tt.code)
			}))
			defer server.Close()
			target, err := Open("s3://backups/x?region=here&endpoint="+server.URL, Credentials{AccessKey: "a", SecretKey: "s3cr3t"})
			if err != nil {
				t.Fatal(err)
			}
			defer target.(*bucket).client.CredContext().Client.CloseIdleConnections()
			if _, err := target.List(t.Context()); errors.Is(err, ErrRefused) != tt.refused || err == nil || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, address := range []string{
		"", "relative", "ftp://x/y", "s3://", "s3://b?endpoint=x", "s3://b?endpoint=ftp://x", "s3://b?wrong=1", "s3://b?path-style=maybe",
		"s3://key:s3cr3t@bucket/x", "s3://b?endpoint=http://key:s3cr3t@host", "file://host/x", "s3://%zz:s3cr3t@x",
	} {
		target, err := Open(address, Credentials{SecretKey: "s3cr3t"})
		if err == nil {
			t.Errorf("%q is accepted: %v", address, target)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: the error tells the secret: %v", address, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", Credentials{SecretKey: "s3cr3t"}, Credentials{SecretKey: "s3cr3t"}, Credentials{SecretKey: "s3cr3t"}); strings.Contains(text, "s3cr3t") {
		t.Errorf("credentials are printed: %s", text)
	}
	dir, err := Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "a/b", ".hidden"} {
		if err := dir.Put(t.Context(), name, strings.NewReader(""), 0); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(nameOf("c", start, 7, strings.Repeat("a", 64)))
	f.Fuzz(func(t *testing.T, name string) {
		b, ok := parseName(name, 1)
		if ok && b.Name != name {
			t.Fatalf("%q became %q", name, b.Name)
		}
	})
}

func TestLoadCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# mine\n[default]\naws_access_key_id = a\naws_secret_access_key=b=c\n[other]\naws_access_key_id=x\n")
	if c, err := LoadCredentials(file, nil); err != nil || c != (Credentials{AccessKey: "a", SecretKey: "b=c"}) {
		t.Fatalf("%q %q %v", c.AccessKey, c.SecretKey, err)
	}
	write("[other]\naws_access_key_id=s3cr3t\n")
	if _, err := LoadCredentials(file, nil); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Fatalf("without a default section: %v", err)
	}
	if _, err := LoadCredentials(file+"x", nil); err == nil {
		t.Fatal("a missing file is accepted")
	}
	env := map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "t"}
	if c, err := LoadCredentials("", func(k string) string { return env[k] }); err != nil || c != (Credentials{"a", "b", "t"}) {
		t.Fatalf("from the environment: %v", err)
	}
}
