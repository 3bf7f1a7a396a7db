package discovery

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Anyone who reaches the port makes memberlist write lines. They do not fill the
// log, and none is lost for the counter.
func TestMemberLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	stats := newMetrics("pm")
	m := newMemberLog(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug}), stats.refused, func() time.Time { return now })
	lines := func() int { return strings.Count(out.String(), "\n") }
	write := func(format string, args ...any) {
		if _, err := fmt.Fprintf(m, format+"\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	for port := range 50 {
		write("[ERR] memberlist: failed to receive: read tcp 192.0.2.9:7946->192.0.2.1:%d: i/o timeout from=192.0.2.1:%d", port, port)
		write("[ERR] memberlist: msg type (%d) not supported from=192.0.2.1:%d", port, port)
	}
	if lines() != 2 || !strings.Contains(out.String(), "peer=192.0.2.1") {
		t.Errorf("one peer is told of %d times: %s", lines(), &out)
	}
	if got := testutil.ToFloat64(stats.refused.WithLabelValues("malformed")); got != 100 {
		t.Errorf("%g are counted", got)
	}
	now = now.Add(tellAgain)
	write("[ERR] memberlist: msg type (7) not supported from=192.0.2.1:1")
	if lines() != 3 || !strings.Contains(out.String(), "not_told_before=49") {
		t.Errorf("after the interval: %s", &out)
	}
	for i := range 10 * maxTold {
		write("[WARN] memberlist: Got ping for unexpected node 'x' from=peer-%d:1", i)
	}
	if lines() > maxTold+3 || len(m.told) > maxTold {
		t.Errorf("%d lines, %d peers are remembered", lines(), len(m.told))
	}
	before := lines()
	write("[INFO] memberlist: Suspect pm-1 has failed, no acks received")
	write("[DEBUG] memberlist: Stream connection from=192.0.2.1:1")
	write("[ERR] memberlist: Failed fallback TCP ping")
	if lines() != before+3 || !strings.Contains(out.String(), "[ERROR] memberlist: Failed fallback") {
		t.Errorf("lines about the node itself are kept back: %d", lines()-before)
	}
}
