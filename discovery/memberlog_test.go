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

// Names in the library's lines are a stranger's. They make neither lines of their own
// nor many.
func TestMemberLogOfForgedNames(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	m := newMemberLog(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info}), newMetrics("pm").refused, func() time.Time { return now })
	write := func(format string, args ...any) {
		if _, err := fmt.Fprintf(m, format+"\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	write("[WARN] memberlist: ignoring alive message for '%s': no", "x\n2026-11-23T19:24:29.280Z [ERROR] pmd: disk lost\x1b[2J\x00\xff")
	if got := strings.Count(out.String(), "\n"); got != 1 || strings.ContainsAny(out.String(), "\x1b\x00") {
		t.Errorf("a forged name gives %d lines: %q", got, &out)
	}
	for i := range 1000 {
		write("[WARN] memberlist: ignoring alive message for 'same' (192.0.2.1:7946) because Vsn is not present")
		write("[WARN] memberlist: ignoring alive message for 'other-%d' (192.0.2.1:7946) because Vsn is not present", i)
		m.conflict("pm/pm-1/1", "192.0.2.1:7946", fmt.Sprint("192.0.2.9:", i))
	}
	if got := strings.Count(out.String(), "\n"); got > maxOwn+1 {
		t.Errorf("%d lines in an interval", got)
	}
	now = now.Add(tellAgain)
	write("[WARN] memberlist: ignoring alive message for 'same' (192.0.2.1:7946) because Vsn is not present")
	if !strings.Contains(out.String(), "not_told_before=999") {
		t.Error("what was kept back is not told of")
	}
}
