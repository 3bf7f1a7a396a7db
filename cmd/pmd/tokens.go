package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/metadata"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/tunnel"
)

const (
	// maxTokenFile bounds the file: some thousand clusters with two tokens each.
	maxTokenFile = 2 << 20
	// minToken and maxToken bound the length of a token.
	minToken, maxToken = 32, 512
	// bearer begins the value of the metadata key authorization.
	bearer = "Bearer "
)

// tokens are those of agents, by cluster, as their digests. A cluster may have several:
// the old and the new one while they are replaced.
type tokens struct {
	file     string
	interval time.Duration
	log      hclog.Logger
	now      atomic.Pointer[tokenTable]

	// found is a change that was seen once, and told the error that was logged; only look
	// uses them.
	found *tokenTable
	told  string
}

type tokenTable struct {
	digest    [sha256.Size]byte
	byCluster map[string][][sha256.Size]byte
}

// nobodyNow is what is logged of a file that lets in nobody. It is taken at its word: who
// takes out the last token wants its owner gone.
const nobodyNow = "no agent is let in: its file has no tokens"

// openTokens reads the file for the first time.
func openTokens(file string, interval time.Duration, log hclog.Logger) (*tokens, error) {
	if interval == 0 {
		interval = tlsfiles.DefaultInterval
	}
	t := &tokens{file: file, interval: interval, log: log}
	table, err := readTokens(file)
	if err != nil {
		return nil, err
	}
	t.now.Store(table)
	if len(table.byCluster) == 0 {
		log.Warn(nobodyNow, "file", file)
	}
	return t, nil
}

// run looks at the file until ctx ends.
func (t *tokens) run(ctx context.Context) {
	timer := time.NewTimer(t.interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(t.look())
	}
}

// look takes in what has changed, and says when to look again. A file that cannot be used
// changes nothing, and one that is being written is not believed: a change counts when it
// is found twice.
func (t *tokens) look() time.Duration {
	table, err := readTokens(t.file)
	if err != nil {
		if err.Error() != t.told {
			t.log.Warn("tokens of agents cannot be used, those of before stay in use", "file", t.file, "error", err)
		}
		t.told, t.found = err.Error(), nil
		return t.interval
	}
	before := t.found
	t.told, t.found = "", nil
	switch {
	case table.digest == t.now.Load().digest:
	case before == nil || before.digest != table.digest:
		t.found = table
		return min(t.interval, time.Second)
	default:
		t.replace(table)
	}
	return t.interval
}

// replace takes in what the file holds now.
func (t *tokens) replace(table *tokenTable) {
	t.now.Store(table)
	if len(table.byCluster) == 0 {
		t.log.Warn(nobodyNow, "file", t.file)
		return
	}
	t.log.Info("tokens of agents changed", "file", t.file, "clusters", len(table.byCluster))
}

// allow refuses a caller who has not shown a token of the cluster, or one that was taken
// out of the file since.
func (t *tokens) allow(ctx context.Context, cluster string) error {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 || !strings.HasPrefix(values[0], bearer) {
		return tunnel.Refuse(tunnel.ReasonToken, "no token for cluster %s was shown; see --control-plane-token-file of crm and --agent-token-file of pmd", cluster)
	}
	shown := sha256.Sum256([]byte(strings.TrimPrefix(values[0], bearer)))
	matches := 0
	for _, want := range t.now.Load().byCluster[cluster] {
		matches |= subtle.ConstantTimeCompare(shown[:], want[:])
	}
	if matches != 1 {
		return tunnel.Refuse(tunnel.ReasonToken, "the token that was shown is none of cluster %s; see --control-plane-token-file of crm and --agent-token-file of pmd", cluster)
	}
	return nil
}

func readTokens(file string) (*tokenTable, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	table, err := parseTokens(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return table, nil
}

// parseTokens reads lines of a cluster's name and a token; there may be none. Its errors
// name lines, and nothing of what is in them.
func parseTokens(text []byte) (*tokenTable, error) {
	if len(text) > maxTokenFile {
		return nil, fmt.Errorf("has more than %d bytes", maxTokenFile)
	}
	table := &tokenTable{digest: sha256.Sum256(text), byCluster: map[string][][sha256.Size]byte{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
			continue
		case len(fields) != 2:
			return nil, fmt.Errorf("line %d: want a cluster's name and a token", n)
		case len(fields[1]) < minToken || len(fields[1]) > maxToken:
			return nil, fmt.Errorf("line %d: a token has %d to %d characters, this one has %d", n, minToken, maxToken, len(fields[1]))
		}
		table.byCluster[fields[0]] = append(table.byCluster[fields[0]], sha256.Sum256([]byte(fields[1])))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("a line is too long: %w", err)
	}
	return table, nil
}
