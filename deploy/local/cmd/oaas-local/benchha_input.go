package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"oaas.io/control-plane/bench"
	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/proto/pmpb"
)

const (
	// attacksPerRound is how often each kind of bad input is sent for each round.
	attacksPerRound = 5
	// linesPerAttack is how many lines of the log one peer may cost, for each kind
	// of bad input, however often it is sent.
	linesPerAttack = 2
	attackPatience = 5 * time.Second
	httpPreface    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	raftPreface    = "oaas-raft/1\n"
)

// attack is one kind of bad input.
type attack struct {
	name, port string
	data       []byte
	// network is tcp unless it says otherwise.
	network string
	// open leaves the connection half open while everything else goes on.
	open bool
}

func attacks() []attack {
	noise := make([]byte, 128<<10)
	_, _ = rand.Read(noise) // never fails
	text := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	stranger := slices.Concat([]byte(raftPreface), text(uuid.NewString()), text(uuid.NewString()))
	endless := []byte("POST /api/v1/packages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{")
	header := []byte("GET /api/v1/packages HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 4<<20) + "\r\n\r\n")
	var all []attack
	for _, port := range []string{"rest", "internal", "raft", "gossip"} {
		all = append(all,
			attack{name: "noise", port: port, data: noise},
			attack{name: "one byte", port: port, data: []byte{0xff}},
			attack{name: "nothing", port: port, open: true},
		)
	}
	return append(all,
		attack{name: "body without end", port: "rest", data: endless},
		attack{name: "half a request", port: "rest", data: endless[:40], open: true},
		attack{name: "oversized header", port: "rest", data: header},
		attack{name: "oversized frame", port: "internal", data: append([]byte(httpPreface), 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0)},
		attack{name: "noise after the preface", port: "internal", data: append([]byte(httpPreface), noise...)},
		attack{name: "half a preface", port: "internal", data: []byte(httpPreface[:9]), open: true},
		attack{name: "another cluster", port: "raft", data: stranger},
		attack{name: "noise after the greeting", port: "raft", data: append(slices.Clone(stranger), noise...)},
		attack{name: "half a greeting", port: "raft", data: []byte(raftPreface[:6]), open: true},
		attack{name: "oversized frame", port: "gossip", data: append([]byte{6, 0xff, 0xff, 0xff, 0xff}, noise...)},
		attack{name: "noise by UDP", port: "gossip", data: noise[:1400], network: "udp"},
	)
}

func (a attack) target(pm *system.PM) string {
	return map[string]string{"rest": pm.HTTPAddress, "internal": pm.GRPCAddress, "raft": pm.RaftAddress, "gossip": pm.GossipAddress}[a.port]
}

// measureBadInput sends what no peer should to every port of a follower and of the leader.
func measureBadInput(ctx context.Context, s *haStack, options *haOptions) ([]bench.Result, error) {
	leader, err := s.system.Leader(ctx)
	if err != nil {
		return nil, err
	}
	var results []bench.Result
	for role, pm := range map[string]*system.PM{"leader": leader, "follower": s.system.Follower(leader)} {
		more, err := s.attackNode(ctx, role, pm, options.rounds*attacksPerRound)
		results = append(results, more...)
		if err != nil {
			return results, err
		}
	}
	slices.SortStableFunc(results, func(a, b bench.Result) int { return strings.Compare(a.Name, b.Name) })
	return results, nil
}

func (s *haStack) attackNode(ctx context.Context, role string, pm *system.PM, times int) ([]bench.Result, error) {
	pid := pm.PID()
	stored, err := s.stored(ctx, pm)
	if err != nil {
		return nil, err
	}
	counted, err := metricsOf(ctx, pm)
	if err != nil {
		return nil, err
	}
	lines := logLines(pm)
	kinds := attacks()
	var kept []net.Conn
	for _, a := range kinds {
		for range times {
			conn, err := a.send(ctx, pm)
			if err != nil {
				return nil, fmt.Errorf("%s to the %s port: %w", a.name, a.port, err)
			}
			if conn != nil {
				kept = append(kept, conn)
			}
		}
	}
	if err := wrongCluster(ctx, pm, times); err != nil {
		return nil, err
	}
	// With all the half-open connections, the node still does its work.
	working := 0.0
	if _, err := pm.Client().Do(ctx, http.MethodPost, "/api/v1/packages", []byte(haPackage), nil); system.IsStatus(err, http.StatusConflict) && pm.PID() == pid && pid != 0 {
		working = 1
	}
	for _, conn := range kept {
		_ = conn.Close()
	}
	after, err := s.stored(ctx, pm)
	if err != nil {
		return nil, err
	}
	now, err := metricsOf(ctx, pm)
	if err != nil {
		return nil, err
	}
	var grown []string
	for name, value := range now {
		refusal := strings.Contains(name, "_refused_") || strings.HasPrefix(name, "oaas_pm_http_requests_total{") && strings.Contains(name, `status="4`)
		if refusal && value > counted[name] {
			grown = append(grown, fmt.Sprintf("%s +%g", name, value-counted[name]))
		}
	}
	slices.Sort(grown)
	prefix := "bad_input_" + role
	return []bench.Result{
		bench.Exactly(prefix+"_alive", working, 1, "", fmt.Sprintf("the same process answers after %d kinds of bad input, %d times each, on all four ports, with half-open connections left", len(kinds)+1, times)),
		bench.Exactly(prefix+"_stored", float64(after-stored), 0, "", "packages and deployments more than before"),
		bench.AtMost(prefix+"_log_lines", float64(logLines(pm)-lines), float64((len(kinds)+1)*linesPerAttack), "", fmt.Sprintf("lines of the log about one peer, the access log aside, at most %d for each kind, however often", linesPerAttack)),
		bench.Info(prefix+"_counted", float64(len(grown)), "", strings.Join(grown, ", ")),
	}, nil
}

// send delivers the input and waits for the end of the connection, which it
// gives back if it is to stay open.
func (a attack) send(ctx context.Context, pm *system.PM) (net.Conn, error) {
	network := a.network
	if network == "" {
		network = "tcp"
	}
	conn, err := (&net.Dialer{Timeout: attackPatience}).DialContext(ctx, network, a.target(pm))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(attackPatience)) // a connection that is closed already shows below
	_, _ = conn.Write(a.data)                            // being cut off is what is to be expected
	if a.open {
		return conn, nil
	}
	if stream, ok := conn.(*net.TCPConn); ok {
		_ = stream.CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			_ = conn.Close()
			return nil, fmt.Errorf("the connection is still open after %s", attackPatience)
		}
	}
	return nil, conn.Close()
}

// wrongCluster speaks the internal protocol as a node of another cluster would.
func wrongCluster(ctx context.Context, pm *system.PM, times int) error {
	conn, err := grpc.NewClient(pm.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to learn from it
	other := uuid.NewString()
	for range times {
		_, err := pmpb.NewPeerServiceClient(conn).CurrentTerm(ctx, &pmpb.CurrentTermRequest{ClusterId: other})
		if status.Code(err) != codes.FailedPrecondition {
			return fmt.Errorf("a node of another cluster is answered %w", err)
		}
	}
	return nil
}

// stored counts packages and deployments.
func (s *haStack) stored(ctx context.Context, pm *system.PM) (int, error) {
	total := 0
	for _, path := range []string{"/api/v1/packages", "/api/v1/deployments"} {
		var list []struct{}
		if _, err := pm.Client().Do(ctx, http.MethodGet, path, nil, &list); err != nil {
			return 0, err
		}
		total += len(list)
	}
	return total, nil
}

// logLines counts the lines of a node's log, without those of the access log,
// which has one for every answered request.
func logLines(pm *system.PM) (n int) {
	data, _ := os.ReadFile(pm.LogFile) // no log, no lines
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, " pmd.api: request: ") {
			n++
		}
	}
	return n
}
