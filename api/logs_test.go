package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/registry"
)

// logged has a log whose lines its server tells.
func logged(h *harness) (hclog.InterceptLogger, *LogBuffer) {
	log := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "pmd", Level: hclog.Info, Output: io.Discard})
	h.opts.Logs = NewLogBuffer(hclog.Info)
	log.RegisterSink(h.opts.Logs)
	return log, h.opts.Logs
}

func TestLogs(t *testing.T) {
	var log hclog.Logger
	h := newHarness(t, func(h *harness) { log, _ = logged(h) })
	log.Named("raft").Named("snapshot").Warn("slow", "took", 3, "format", hclog.Fmt("%03d", 7), "odd")
	log.Named("api").Info("request", "path", strings.Repeat("x", 2*maxLogText))
	log.Debug("nobody wants this")
	for target, want := range map[string][]string{
		"":                         {"slow", "request"},
		"?lines=1":                 {"request"},
		"?lines=0":                 nil,
		"?level=warn":              {"slow"},
		"?subsystem=raft":          {"slow"},
		"?subsystem=pmd.raft":      {"slow"},
		"?subsystem=snap":          nil,
		"?subsystem=api&level=err": nil, // a 400
	} {
		w := h.do(http.MethodGet, "/api/v1/operator/logs"+target, "")
		if strings.HasSuffix(target, "err") {
			if h.problem(w).Code != registry.InvalidArgument {
				t.Errorf("%s: %s", target, w.Body)
			}
			continue
		}
		var got []string
		for line := range strings.Lines(w.Body.String()) {
			var l LogLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			got = append(got, l.Message)
			if l.Message == "slow" && (l.Fields["took"] != "3" || l.Fields["format"] != "007" || l.Fields["EXTRA_VALUE_AT_END"] != "odd" || l.Subsystem != "pmd.raft.snapshot") {
				t.Errorf("line %s", line)
			}
			if len(line) > maxLogText+1024 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// TestFollowLogsOfAnotherNode reads another node's log live, below the level that
// it writes itself.
func TestFollowLogsOfAnotherNode(t *testing.T) {
	logs := map[*harness]hclog.Logger{}
	p := newPeers(t, nil, func(h *harness) { logs[h], _ = logged(h) })
	base, c := serve(t, p.follower), client(t)
	logs[p.leader].Info("before")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/operator/logs?node=leader&follow&level=debug", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	// The remembered line comes once the follower is there.
	for _, want := range []string{"before", "live"} {
		if !lines.Scan() || !strings.Contains(lines.Text(), `"message":"`+want+`"`) {
			t.Fatalf("%q, %v, want %s", lines.Text(), lines.Err(), want)
		}
		logs[p.follower].Error("not this node's")
		logs[p.leader].Debug("live")
	}
}

// TestSlowReaderLosesLines: the loggers never wait, and the reader learns how much
// it missed.
func TestSlowReaderLosesLines(t *testing.T) {
	b := NewLogBuffer(hclog.Info)
	if kept, f := b.last(logFilter{level: hclog.Info}, 10, false); kept != nil || f != nil {
		t.Errorf("%v %v", kept, f)
	}
	_, f := b.last(logFilter{level: hclog.Info}, 10, true)
	for i := range followerLines + 12 {
		b.Accept("x", hclog.Info, fmt.Sprint(i))
	}
	if got := f.lost.Load(); got != 12 || len(f.lines) != followerLines {
		t.Errorf("lost %d, waiting %d", got, len(f.lines))
	}
	b.leave(f)
	for i := range keptLogLines {
		b.Accept("x", hclog.Info, fmt.Sprint(i))
	}
	kept, _ := b.last(logFilter{level: hclog.Info}, keptLogLines+1, false)
	if len(kept) != keptLogLines || kept[0].Message != "0" || kept[len(kept)-1].Message != fmt.Sprint(keptLogLines-1) {
		t.Errorf("%d lines from %s to %s", len(kept), kept[0].Message, kept[len(kept)-1].Message)
	}
	var followers []*logFollower
	for {
		_, f := b.last(logFilter{level: hclog.Trace}, 0, true)
		if f == nil {
			break
		}
		followers = append(followers, f)
	}
	if len(followers) != maxLogFollowers {
		t.Errorf("%d followers", len(followers))
	}
	for _, f := range followers {
		b.leave(f)
	}
	if b.lowest.Load() != int32(hclog.Info) {
		t.Error("lines that nobody wants are made")
	}
}

func TestProfiles(t *testing.T) {
	h := newHarness(t)
	for target, status := range map[string]int{
		"heap": 200, "goroutine?debug=1": 200, "trace?seconds=1": 200, "nothing": 404, "cpu?seconds=61": 400, "cpu?seconds=x": 400,
	} {
		if w := h.do(http.MethodGet, "/api/v1/operator/debug/pprof/"+target, ""); w.Code != status || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %d bytes", target, w.Code, w.Body.Len())
		}
	}
}
