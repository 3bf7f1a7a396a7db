package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Node is a pmd.
type Node struct {
	Server
	disk Disk
}

// DataDir has the node's log, snapshots and identity.
func (n *Node) DataDir() string { return n.disk.Path() }

// URL is the base of the node's REST API, for Cluster.HTTP.
func (n *Node) URL() string { return "http://" + net.JoinHostPort(n.name, strconv.Itoa(PortHTTP)) }

// Move stops the node, if it runs, gives it a new address and starts it again. Others find it by its name, within some
// seconds (they remember addresses for five).
func (n *Node) Move(ctx context.Context) error {
	// One that does not end in order is killed, and moves as well.
	_ = n.Stop(ctx)
	if err := n.place.move(); err != nil {
		// The node goes on where it is.
		return errors.Join(err, n.Start(ctx))
	}
	return n.Start(ctx)
}

// Wipe removes all that the node has stored. The node must not run.
func (n *Node) Wipe() error {
	if n.Running() {
		return fmt.Errorf("wipe %s: it is running", n.name)
	}
	// The directory itself can be where something is mounted.
	entries, err := os.ReadDir(n.DataDir())
	if err != nil {
		return fmt.Errorf("wipe %s: %w", n.name, err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(n.DataDir(), entry.Name())); err != nil {
			return fmt.Errorf("wipe %s: %w", n.name, err)
		}
	}
	// What was removed must not come back when the disk loses what was not synced.
	dir, err := os.Open(n.DataDir())
	if err != nil {
		return fmt.Errorf("wipe %s: %w", n.name, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("wipe %s: %w", n.name, err)
	}
	return nil
}

// Metrics reads the node's metrics.
func (n *Node) Metrics(ctx context.Context) (Metrics, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", n.name, err)
	}
	response, err := n.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", n.name, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end below
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of %s: %s", n.name, response.Status)
	}
	metrics := Metrics{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		metrics.read(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", n.name, err)
	}
	return metrics, nil
}

// Metrics are the samples of a node, by what stands before the value: a name, with labels in braces where there are any.
type Metrics map[string]float64

// read takes in a line of the text format. pmd gives no times, so that the value is the last field.
func (m Metrics) read(line string) {
	at := strings.LastIndexByte(line, ' ')
	if at < 0 || strings.HasPrefix(line, "#") {
		return
	}
	if value, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
		m[line[:at]] = value
	}
}

// Sum adds up all samples of that name, whatever their labels. It reports whether there are any.
func (m Metrics) Sum(name string) (sum float64, found bool) {
	for sample, value := range m {
		if bare, _, _ := strings.Cut(sample, "{"); bare == name {
			sum, found = sum+value, true
		}
	}
	return sum, found
}

// directory is a disk that nobody has prepared.
type directory string

// Path implements Disk.
func (d directory) Path() string { return string(d) }

// Close implements Disk.
func (d directory) Close() error { return nil }
