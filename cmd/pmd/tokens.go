package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/metadata"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
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
}

type tokenTable struct {
	digest    [sha256.Size]byte
	byCluster map[string][][sha256.Size]byte
}

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
	return t, nil
}

// run looks at the file until ctx ends. One that cannot be used changes nothing.
func (t *tokens) run(ctx context.Context) {
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		table, err := readTokens(t.file)
		switch {
		case err == nil && table.digest != t.now.Load().digest:
			t.now.Store(table)
			t.log.Info("tokens of agents changed", "file", t.file, "clusters", len(table.byCluster))
		case err != nil && err.Error() != told:
			t.log.Warn("tokens of agents cannot be used, those of before stay in use", "file", t.file, "error", err)
		}
		told = ""
		if err != nil {
			told = err.Error()
		}
	}
}

// allow says whether the caller has shown a token of the cluster.
func (t *tokens) allow(ctx context.Context, cluster string) bool {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 || !strings.HasPrefix(values[0], bearer) {
		return false
	}
	shown := sha256.Sum256([]byte(strings.TrimPrefix(values[0], bearer)))
	matches := 0
	for _, want := range t.now.Load().byCluster[cluster] {
		matches |= subtle.ConstantTimeCompare(shown[:], want[:])
	}
	return matches == 1
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

// parseTokens reads lines of a cluster's name and a token. Its errors name lines, and
// nothing of what is in them.
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
	if len(table.byCluster) == 0 {
		return nil, errors.New("has no token in it")
	}
	return table, nil
}
