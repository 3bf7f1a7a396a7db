package backup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	namePrefix = "oaas-pm_"
	nameSuffix = ".snapshot"
	nameTime   = "20060102T150405.000Z"
	nameDigest = 16
)

// Backup is one stored snapshot, as its name tells.
type Backup struct {
	Name      string    `json:"name"`
	ClusterID string    `json:"cluster_id"`
	Time      time.Time `json:"time"`
	// Index is that of the state.
	Index uint64 `json:"index"`
	// Digest are the first digits of the file's SHA-256.
	Digest string `json:"digest"`
	Size   int64  `json:"size_bytes"`
}

func nameOf(clusterID string, at time.Time, index uint64, sha256 string) string {
	return fmt.Sprintf("%s%s_%s_%020d_%s%s", namePrefix, clusterID, at.UTC().Format(nameTime), index, sha256[:nameDigest], nameSuffix)
}

// parseName reads a name. Anything that is not exactly of the form is foreign.
func parseName(name string, size int64) (Backup, bool) {
	inner, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return Backup{}, false
	}
	if inner, ok = strings.CutSuffix(inner, nameSuffix); !ok {
		return Backup{}, false
	}
	parts := strings.Split(inner, "_")
	if len(parts) != 4 || parts[0] == "" || len(parts[2]) != 20 || len(parts[3]) != nameDigest {
		return Backup{}, false
	}
	at, err := time.Parse(nameTime, parts[1])
	if err != nil {
		return Backup{}, false
	}
	index, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || strings.Trim(parts[3], "0123456789abcdef") != "" {
		return Backup{}, false
	}
	return Backup{Name: name, ClusterID: parts[0], Time: at, Index: index, Digest: parts[3], Size: size}, true
}

// Retention says which backups stay.
type Retention struct {
	// Last is how many of the newest stay; at least 1.
	Last int
	// Days is for how many days, today included, the newest of each day stays.
	Days int
}

// Validate reports what makes no sense.
func (r Retention) Validate() error {
	if r.Last < 1 || r.Days < 0 {
		return fmt.Errorf("backup: keep at least 1 backup and 0 days, not %d and %d", r.Last, r.Days)
	}
	return nil
}

// expired gives the backups that may go. They are sorted, newest first, and of
// one cluster. The newest stays whatever the settings are.
func (r Retention) expired(sorted []Backup, now time.Time) []Backup {
	var out []Backup
	days := map[string]bool{}
	oldest := now.UTC().AddDate(0, 0, -r.Days).Format(time.DateOnly)
	for i, b := range sorted {
		day := b.Time.UTC().Format(time.DateOnly)
		daily := day > oldest && !days[day]
		days[day] = true
		if i >= max(r.Last, 1) && !daily {
			out = append(out, b)
		}
	}
	return out
}
