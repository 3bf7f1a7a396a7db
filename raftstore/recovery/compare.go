package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
)

// Comparison ranks data directories.
type Comparison struct {
	// Reports, best first.
	Reports []*Report `json:"reports"`
	// Use is the directory to recover from.
	Use string `json:"use"`
	// Why says what speaks for it, and what the others have or lack.
	Why []string `json:"why"`
	// Quorum tells that the directories are enough for the cluster to go on without
	// a recovery: start their nodes instead.
	Quorum bool `json:"quorum"`
}

// Compare inspects several directories of one cluster and says which to use. A
// directory that cannot be read is an error; leave it out.
func Compare(ctx context.Context, dirs ...string) (*Comparison, error) {
	if len(dirs) == 0 {
		return nil, errors.New("recovery: no data directory was named")
	}
	c := &Comparison{}
	for _, dir := range dirs {
		r, err := Inspect(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if len(c.Reports) > 0 && r.ClusterID != c.Reports[0].ClusterID {
			return nil, fmt.Errorf("recovery: %s belongs to cluster %s, %s to cluster %s", dir, r.ClusterID, c.Reports[0].DataDir, c.Reports[0].ClusterID)
		}
		c.Reports = append(c.Reports, r)
	}
	slices.SortStableFunc(c.Reports, rank)
	best := c.Reports[0]
	c.Use = best.DataDir
	c.Why = append(c.Why, fmt.Sprintf("%s ends with entry %d of term %d", best.DataDir, best.EndIndex, best.EndTerm))
	for _, r := range c.Reports[1:] {
		why, err := against(best, r)
		if err != nil {
			return nil, err
		}
		c.Why = append(c.Why, why)
	}
	c.Quorum = hasQuorum(c.Reports)
	if c.Quorum {
		c.Why = append(c.Why, "these servers are a majority of the cluster: start them, nothing has to be recovered and nothing is lost")
	}
	return c, nil
}

// rank puts first what would win an election: the later term of the last entry,
// then the longer log. Directories with problems come last.
func rank(a, b *Report) int {
	return cmp.Or(
		cmp.Compare(len(a.Problems), len(b.Problems)),
		cmp.Compare(b.EndTerm, a.EndTerm),
		cmp.Compare(b.EndIndex, a.EndIndex),
		cmp.Compare(b.Term, a.Term),
	)
}

func hasQuorum(reports []*Report) bool {
	present := map[string]bool{}
	for _, r := range reports {
		if len(r.Problems) == 0 {
			present[r.ServerID] = true
		}
	}
	voters, found := 0, 0
	for _, s := range reports[0].Servers {
		if !s.Voter {
			continue
		}
		voters++
		if present[s.ID] {
			found++
		}
	}
	return voters > 0 && found > voters/2
}

// against says how a directory differs from the best.
func against(best, r *Report) (string, error) {
	if len(r.Problems) > len(best.Problems) {
		return fmt.Sprintf("%s has problems: %s", r.DataDir, r.Problems[0]), nil
	}
	common, err := lastCommon(best, r)
	if err != nil {
		return "", err
	}
	switch common {
	case 0:
		return fmt.Sprintf("%s ends with entry %d of term %d; its log does not overlap", r.DataDir, r.EndIndex, r.EndTerm), nil
	case best.EndIndex:
		return fmt.Sprintf("%s holds the same", r.DataDir), nil
	case r.EndIndex:
		return fmt.Sprintf("%s holds nothing else and lacks %s", r.DataDir, entries(best.EndIndex-common)), nil
	default:
		return fmt.Sprintf("%s differs after entry %d: it has %s not in %s and never committed, unless a lost server had them too",
			r.DataDir, common, entries(r.EndIndex-common), best.DataDir), nil
	}
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// lastCommon is the last index at which both logs have an entry of the same term:
// up to there they are the same. 0: there is none to compare.
func lastCommon(a, b *Report) (uint64, error) {
	if a.EndIndex == b.EndIndex && a.EndTerm == b.EndTerm {
		return a.EndIndex, nil
	}
	first := max(a.FirstIndex, b.FirstIndex)
	last := min(a.LastIndex, b.LastIndex)
	if a.LastIndex == 0 || b.LastIndex == 0 {
		return 0, nil
	}
	left, err := openLog(filepath.Join(a.DataDir, raftDir, logFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = left.Close() }() // only read
	right, err := openLog(filepath.Join(b.DataDir, raftDir, logFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = right.Close() }() // only read
	for i := last; i >= first && i > 0; i-- {
		var x, y raft.Log
		if err := errors.Join(left.GetLog(i, &x), right.GetLog(i, &y)); err != nil {
			return 0, fmt.Errorf("recovery: entry %d: %w", i, err)
		}
		if x.Term == y.Term {
			return i, nil
		}
	}
	return 0, nil
}
