package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"oaas.io/control-plane/proto/pmpb"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/registry"
)

// The verdicts of a check, from good to bad.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// check is one finding of the doctor.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	// Value is what was measured, Bound what it should be.
	Value string `json:"value"`
	Bound string `json:"bound"`
	// Advice is empty when all is well.
	Advice string `json:"advice"`
}

type doctorView struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	// Status is the worst of the checks'.
	Status string  `json:"status"`
	Checks []check `json:"checks"`
}

// The bounds of the checks. Above the first of a pair is a warning, above the
// second a failure.
const (
	fsyncRuns                = 20
	fsyncWarn, fsyncFail     = 10 * time.Millisecond, 100 * time.Millisecond
	rttWarn, rttFail         = 50 * time.Millisecond, 500 * time.Millisecond
	clockWarn, clockFail     = 500 * time.Millisecond, 5 * time.Second
	diskWarn, diskFail       = 0.20, 0.08
	filesWarn, filesFail     = 8192, 1024
	backupWarn, backupFail   = 26 * time.Hour, 7 * 24 * time.Hour
	doctorTimeout            = 5 * time.Second
	rttRuns                  = 3
	contactWarn, contactFail = time.Second, 5 * time.Second
)

// getDoctor runs the checks on this node. It needs no leader, and measures with
// the load that there is.
func (s *Server) getDoctor(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 3*doctorTimeout)
	defer cancel()
	out := doctorView{ServerID: s.opts.Cluster.ServerID(), Name: s.nameOf(s.opts.Cluster.ServerID()), Status: checkOK}
	out.Checks = append(out.Checks, s.checkDisk()...)
	out.Checks = append(out.Checks, s.checkPeers(ctx)...)
	out.Checks = append(out.Checks, s.checkCluster(ctx)...)
	out.Checks = append(out.Checks, checkFiles())
	for _, c := range out.Checks {
		out.Status = worse(out.Status, c.Status)
	}
	return writeJSON(w, http.StatusOK, out)
}

func worse(a, b string) string {
	order := []string{checkOK, checkWarn, checkFail}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// above grades a measurement that should be small.
func above(name string, got, warn, bad time.Duration, advice string) check {
	c := check{Name: name, Status: checkOK, Value: brief(got), Bound: "below " + brief(warn)}
	switch {
	case got >= bad:
		c.Status, c.Advice = checkFail, advice
	case got >= warn:
		c.Status, c.Advice = checkWarn, advice
	}
	return c
}

// brief rounds a duration to what people read.
func brief(d time.Duration) string {
	switch {
	case d >= time.Hour || d <= -time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Second || d <= -time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

// checkDisk measures what a write to the log costs and what room there is.
func (s *Server) checkDisk() []check {
	var out []check
	if s.opts.DataDir != "" {
		p99, err := fsyncLatency(s.opts.DataDir)
		if err != nil {
			out = append(out, check{Name: "fsync", Status: checkFail, Value: err.Error(), Bound: "below " + brief(fsyncWarn), Advice: "the data directory must be writable"})
		} else {
			out = append(out, above("fsync", p99, fsyncWarn, fsyncFail,
				"every write waits for the disk twice; use a local SSD, or --profile slow-disk"))
		}
	}
	if s.opts.Inspection == nil {
		return out
	}
	d := s.opts.Inspection.Disk()
	if d.WriteP99 > 0 {
		out = append(out, above("log writes p99", time.Duration(d.WriteP99), 5*fsyncWarn, 5*fsyncFail, "the log's own writes are slow; is the disk shared?"))
	}
	if d.Total > 0 {
		out = append(out, diskSpace(d.Free, d.Total, d.Low))
	}
	return out
}

// diskSpace judges the room on a disk. low is the verdict of the watermark, which
// a small disk is below with a larger part of it free.
func diskSpace(free, total uint64, low bool) check {
	part := float64(free) / float64(total)
	c := check{Name: "disk space", Status: checkOK, Value: fmt.Sprintf("%.0f %% free (%s)", 100*part, byteText(free)), Bound: fmt.Sprintf("above %.0f %%", 100*diskWarn)}
	const advice = "make room: a full disk makes the cluster read-only"
	switch {
	case low:
		c.Status, c.Bound, c.Advice = checkFail, "above the watermark", "make room: the cluster is read-only; 'pmctl alarms' says how much is wanted"
	case part < diskFail:
		c.Status, c.Advice = checkFail, advice
	case part < diskWarn:
		c.Status, c.Advice = checkWarn, advice
	}
	return c
}

// fsyncLatency measures the slowest of a few small durable writes in dir.
func fsyncLatency(dir string) (worst time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, 4096)
	for range fsyncRuns {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		worst = max(worst, time.Since(began))
	}
	return worst, nil
}

// checkPeers looks at every other server: its name, the way to it, its clock.
func (s *Server) checkPeers(ctx context.Context) []check {
	var peers []raftstore.Server
	for _, server := range s.opts.Cluster.Servers() {
		if server.ID != s.opts.Cluster.ServerID() {
			peers = append(peers, server)
		}
	}
	found := make([][]check, len(peers))
	var all sync.WaitGroup
	for i, peer := range peers {
		all.Go(func() { found[i] = s.checkPeer(ctx, peer) })
	}
	all.Wait()
	return slices.Concat(found...)
}

func (s *Server) checkPeer(ctx context.Context, peer raftstore.Server) []check {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	who := s.nameOf(peer.ID)
	if who == "" {
		who = peer.ID
	}
	out := []check{resolves(ctx, who, peer.RaftAddress, peer.GRPCAddress)}
	conn, err := s.opts.Cluster.ServerConn(ctx, peer.ID)
	if err != nil {
		return append(out, check{Name: "reach " + who, Status: checkFail, Value: "its address is not known", Bound: "answers", Advice: "is it running, and is it told the right --peers?"})
	}
	client := pmpb.NewPeerServiceClient(conn)
	var best time.Duration
	var offset time.Duration
	for run := range rttRuns {
		began := time.Now()
		answer, err := client.Identify(ctx, &pmpb.IdentifyRequest{})
		took := time.Since(began)
		if err != nil {
			return append(out, check{Name: "reach " + who, Status: checkFail, Value: clipText(err.Error()), Bound: "answers", Advice: "is it running? Is port " + portOf(peer.GRPCAddress) + " open between the nodes?"})
		}
		if answer.GetServerId() != peer.ID {
			return append(out, check{Name: "reach " + who, Status: checkFail, Value: "server " + answer.GetServerId() + " answers there", Bound: "answers", Advice: "two servers share an address, or the node lost its disk and has not joined again yet"})
		}
		if run == 0 || took < best {
			best = took
			if t := answer.GetTime(); t.IsValid() {
				offset = t.AsTime().Sub(began.Add(took / 2))
			}
		}
	}
	out = append(out, above("round trip to "+who, best, rttWarn, rttFail, "elections need a round trip well below the heartbeat timeout; keep voters in one region"))
	clock := above("clock of "+who, offset.Abs(), clockWarn, clockFail, "run a time service on both; times in the state are the leader's")
	clock.Value = brief(offset)
	return append(out, clock)
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// resolves checks that the hosts of a server's addresses have an address now.
func resolves(ctx context.Context, who string, addresses ...string) check {
	c := check{Name: "name of " + who, Status: checkOK, Bound: "resolves"}
	began := time.Now()
	seen := map[string]bool{}
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil || seen[host] {
			continue
		}
		seen[host] = true
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			c.Status, c.Value, c.Advice = checkFail, err.Error(), "the name must resolve on every node, also while its pod is not ready (publishNotReadyAddresses)"
			return c
		}
		c.Value = fmt.Sprintf("%s is %s (%s)", host, ips[0], brief(time.Since(began)))
	}
	return c
}

// checkCluster looks at what the nodes are together.
func (s *Server) checkCluster(ctx context.Context) []check {
	quorum := check{Name: "quorum", Status: checkOK, Bound: "a linearizable read succeeds"}
	began := time.Now()
	rctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	_, err := s.opts.Registry.Read(rctx, registry.Consistency{})
	cancel()
	quorum.Value = brief(time.Since(began))
	if err != nil {
		quorum.Status, quorum.Value, quorum.Advice = checkFail, clipText(err.Error()), "a majority of the voters must run and reach one another; see 'pmctl member list' and docs/operations.md"
	}
	out := []check{quorum, above("leader's last message", s.opts.Cluster.LastContact(), contactWarn, contactFail, "the leader cannot reach this node, or there is none")}
	out = append(out, s.checkVoters()...)
	snap := s.opts.Registry.State().Snapshot()
	alarms := check{Name: "alarms", Status: checkOK, Value: "none", Bound: "none"}
	if n := len(snap.Alarms()); n > 0 {
		alarms.Status, alarms.Value, alarms.Advice = checkFail, strconv.Itoa(n)+": "+snap.Alarms()[0].GetMessage(), "the cluster is read-only; see 'pmctl alarms'"
	}
	out = append(out, alarms, s.checkFleet(snap))
	if s.opts.Backups != nil && s.opts.Cluster.IsLeader() {
		out = append(out, s.checkBackups(ctx))
	}
	return out
}

// checkVoters compares the voters with what is wanted, where that is known.
func (s *Server) checkVoters() []check {
	voters := 0
	for _, server := range s.opts.Cluster.Servers() {
		if server.Voter {
			voters++
		}
	}
	c := check{Name: "voters", Status: checkOK, Value: strconv.Itoa(voters), Bound: "an odd number"}
	if voters%2 == 0 {
		c.Status, c.Advice = checkWarn, fmt.Sprintf("%d voters tolerate no more failures than %d would", voters, voters-1)
	}
	if s.opts.Membership == nil {
		return []check{c}
	}
	state, err := s.opts.Membership.Autopilot()
	if err != nil { // not the leader
		return []check{c}
	}
	c.Bound = strconv.Itoa(state.DesiredVoters)
	if state.Voters != state.DesiredVoters {
		c.Status, c.Advice = checkWarn, "see 'pmctl autopilot explain'"
	}
	tolerance := check{Name: "failure tolerance", Status: checkOK, Value: strconv.Itoa(state.FailureTolerance), Bound: "above 0"}
	if state.FailureTolerance == 0 && state.DesiredVoters > 1 {
		tolerance.Status, tolerance.Advice = checkWarn, "the next failure stops writes; see 'pmctl autopilot explain'"
	}
	return []check{c, tolerance}
}

func (s *Server) checkBackups(ctx context.Context) check {
	c := check{Name: "backup age", Status: checkOK, Bound: "below " + brief(backupWarn)}
	list, err := s.opts.Backups.List(ctx)
	var newest time.Time
	for _, b := range list {
		if b.Time != nil && b.Time.After(newest) {
			newest = *b.Time
		}
	}
	switch age := s.opts.Now().Sub(newest); {
	case err != nil:
		c.Status, c.Value, c.Advice = checkFail, clipText(err.Error()), "the place of the backups cannot be read"
	case newest.IsZero():
		c.Status, c.Value, c.Advice = checkWarn, "there is none", "'pmctl snapshot list' shows what there is; look for the errors of the schedule in the leader's log"
		if s.opts.Now().Sub(s.started) > backupWarn {
			c.Status = checkFail
		}
	default:
		c = above("backup age", age, backupWarn, backupFail, "the schedule does not run; look into the leader's log")
	}
	return c
}

// checkFiles looks at how many files and connections the process may have.
func checkFiles() check {
	c := check{Name: "open files", Status: checkOK, Bound: "at least " + strconv.Itoa(filesWarn)}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		c.Status, c.Value = checkWarn, err.Error()
		return c
	}
	c.Value = strconv.FormatUint(limit.Cur, 10)
	switch {
	case limit.Cur < filesFail:
		c.Status = checkFail
	case limit.Cur < filesWarn:
		c.Status = checkWarn
	default:
		return c
	}
	c.Advice = "raise the limit of open files (ulimit -n, LimitNOFILE)"
	return c
}

// byteText gives a size in the unit that fits.
func byteText(n uint64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, units := float64(n), "KMGTPE"
	i := -1
	for value >= unit && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}
