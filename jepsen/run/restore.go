package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"oaas.io/control-plane/jepsen/check"
	"oaas.io/control-plane/jepsen/history"
	"oaas.io/control-plane/jepsen/nemesis"
	"oaas.io/control-plane/jepsen/workload"
)

const (
	// restoreLimit bounds the whole phase, beside the time that the clusters may take to settle.
	restoreLimit = 2 * time.Minute
	// restoreLoad is how long the users of the phase work before the state is taken back.
	restoreLoad = 3 * time.Second
	// restoreAttempts is how often a restore is asked for that did not come about because its leader was killed.
	restoreAttempts = 5
)

// restore takes the state back to where the history has ended, twice: first while users write and the leader is killed at some
// moment of it, which must leave a cluster that works; then at rest, after which exactly what was there at the end of the history
// must be there again, in the nodes and in the clusters. The users of this phase are in no history that is judged: what they are
// answered is taken back under their feet.
func (r *Result) restore(ctx context.Context, s *stack) {
	ctx, cancel := context.WithTimeout(ctx, restoreLimit+r.Options.Settle)
	defer cancel()
	began := time.Now()
	v := check.Verdict{Name: nemesis.Restore, Counts: map[string]int{}}
	if err := r.takeBack(ctx, s, &v); err != nil {
		v.Violations = append(v.Violations, check.Violation{What: "the state could not be taken back", Detail: err.Error()})
	}
	v.OK = len(v.Violations) == 0
	v.Counts["violations"] = len(v.Violations)
	v.Detail = fmt.Sprintf("%d packages and %d deployments were taken back in %s, with %d attempts", v.Counts["packages"], v.Counts["deployments"], time.Since(began).Round(time.Millisecond), v.Counts["attempts"])
	r.Restored = &v
}

func (r *Result) takeBack(ctx context.Context, s *stack, v *check.Verdict) error {
	want, err := workload.Observe(ctx, s.env)
	if err != nil {
		return err
	}
	var snapshot bytes.Buffer
	asked := s.cluster.Client(s.nodes()[0])
	if _, err := asked.Snapshot(ctx, "", &snapshot); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	// The leader is about to be killed: what is left must be a majority.
	if err := s.vote(ctx); err != nil {
		return err
	}
	if err := r.restoreUnderLoad(ctx, s, snapshot.Bytes(), v); err != nil {
		return fmt.Errorf("restore under load: %w", err)
	}
	if err := s.restoreOnce(ctx, snapshot.Bytes(), v); err != nil {
		return fmt.Errorf("restore at rest: %w", err)
	}
	if err := s.rest(ctx); err != nil {
		return fmt.Errorf("after the restore: %w", err)
	}
	got, err := workload.Observe(ctx, s.env)
	if err != nil {
		return err
	}
	if got.Clusters, err = s.runtimes(ctx); err != nil {
		return err
	}
	got.Fenced = s.fences.seen()
	v.Violations = append(v.Violations, compare(&want, &got, v.Counts)...)
	for _, verdict := range []check.Verdict{check.Replicas(&got), check.Runtimes(anyUnits(&got), got.Clusters), check.Fences(got.Fenced)} {
		v.Violations = append(v.Violations, verdict.Violations...)
	}
	return nil
}

// restoreUnderLoad restores while users write, and kills the leader at a moment that the seed gives.
func (r *Result) restoreUnderLoad(ctx context.Context, s *stack, snapshot []byte, v *check.Verdict) error {
	random := rand.New(rand.NewPCG(r.Options.Seed, 0x726573746f7265)) //nolint:gosec // repeatable, not secret
	env, err := workload.New(s.workloadOptions(history.NewRecorder(), r.Options.Seed+1))
	if err != nil {
		return err
	}
	defer env.Close()
	junk := *s
	junk.env = env
	users := startUsers(ctx, &junk, []workload.Workload{workload.Register{}, workload.Set{}, workload.Lifecycle{}})
	defer users.end() //nolint:errcheck // ended below, with its error
	if err := pause(ctx, restoreLoad); err != nil {
		return err
	}
	leader, _, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	killed := make(chan error, 1)
	wait := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
	go func() {
		if err := pause(ctx, wait); err != nil {
			killed <- err
			return
		}
		killed <- s.cluster.Node(leader).Kill()
	}()
	err = s.restoreOnce(ctx, snapshot, v)
	err = errors.Join(err, <-killed, nemesis.Recover(ctx, s.target))
	return errors.Join(err, users.end())
}

// restoreOnce asks until the state was taken back: one whose leader is killed may have been done or not, and can be done again.
func (s *stack) restoreOnce(ctx context.Context, snapshot []byte, v *check.Verdict) error {
	var last error
	for n := range restoreAttempts {
		v.Counts["attempts"]++
		for _, node := range s.nodes() {
			c := s.cluster.Client(node)
			about, err := c.Node(ctx, "")
			if err == nil {
				_, err = c.Restore(ctx, about.ClusterID, bytes.NewReader(snapshot), int64(len(snapshot)))
			}
			if err == nil {
				return nil
			}
			last = fmt.Errorf("%s: %w", node, err)
		}
		if err := pause(ctx, time.Duration(n+1)*time.Second); err != nil {
			break
		}
	}
	return last
}

func anyUnits(f *history.Final) []history.Unit {
	for _, state := range f.Nodes {
		if state.Error == "" {
			return state.Units
		}
	}
	return nil
}

// compare finds what differs between two states in what users have stored.
func compare(want, got *history.Final, counts map[string]int) (out []check.Violation) {
	for name, after := range got.Nodes {
		before, ok := want.Nodes[name]
		switch {
		case after.Error != "":
			out = append(out, check.Violation{What: "a node does not tell its state", Key: name, Detail: after.Error})
			continue
		case !ok || before.Error != "":
			continue
		}
		counts["packages"], counts["deployments"] = len(before.Packages), len(before.Deployments)
		out = append(out, differ(name+" packages", before.Packages, after.Packages)...)
		out = append(out, differ(name+" deployments", before.Deployments, after.Deployments)...)
	}
	return out
}

func differ(what string, want, got []history.Object) (out []check.Violation) {
	for _, o := range want {
		if !slices.Contains(got, o) {
			out = append(out, check.Violation{What: "not as it was saved", Key: o.Key, Detail: fmt.Sprintf("%s: %+v is not there", what, o)})
		}
	}
	for _, o := range got {
		if !slices.Contains(want, o) {
			out = append(out, check.Violation{What: "not as it was saved", Key: o.Key, Detail: fmt.Sprintf("%s: %+v was not saved", what, o)})
		}
	}
	return out
}
