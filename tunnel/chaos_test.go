package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// quick notices everything within a second or so, on a slow machine too.
func quick(o *HubOptions) {
	o.PingInterval, o.PeerSilence, o.NoLeaderLimit, o.OpenTimeout = 300*time.Millisecond, time.Second, 300*time.Millisecond, 500*time.Millisecond
}

// stable are addresses of nodes that outlive the nodes.
func (p *plane) stable(ids ...string) (addresses []string, edit func(*AgentOptions)) {
	at := map[string]string{}
	for i, id := range ids {
		address := fmt.Sprintf("127.0.0.1:%d", i+1)
		at[address] = id
		addresses = append(addresses, address)
	}
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		n := p.node(at[address])
		if n == nil {
			return nil, fmt.Errorf("%s is down", at[address])
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", n.agents)
	}
	return addresses, func(o *AgentOptions) {
		o.DialOptions = func() ([]grpc.DialOption, error) {
			return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial)}, nil
		}
	}
}

// user keeps talking to a cluster from a node, whatever happens.
type user struct {
	from string
	to   Cluster
	done atomic.Int64 // exchanges that went well
}

// talk opens connections and uses each until it breaks.
func (u *user) talk(ctx context.Context, p *plane) {
	seed := rand.New(rand.NewPCG(1, uint64(len(u.from)+len(u.to.Name))))
	for ctx.Err() == nil {
		n := p.node(u.from)
		if n == nil {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		dialling, cancel := context.WithTimeout(ctx, 3*time.Second)
		conn, err := n.hub.Dial(dialling, u.to)
		cancel()
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		u.use(ctx, p.t, conn, seed)
		stop()
		_ = conn.Close()
	}
}

// use says lines and wants them back, from the cluster that was meant.
func (u *user) use(ctx context.Context, t *testing.T, conn net.Conn, seed *rand.Rand) {
	from := bufio.NewReader(conn)
	// As who uses it in earnest does, it is not waited for without end.
	wait := func() { _ = conn.SetDeadline(time.Now().Add(5 * time.Second)) }
	wait()
	who, err := from.ReadString('\n')
	if err != nil {
		return
	}
	if who != u.to.Name+"\n" {
		t.Errorf("%s is answered by %q", u.to, who)
		return
	}
	for i := 0; pause(ctx, 5*time.Millisecond); i++ { // users leave something of the machine to others
		wait()
		said := fmt.Sprintf("%s %d %s", u.to.Name, i, strings.Repeat("x", seed.IntN(10<<10)))
		failed := make(chan error, 1)
		go func() {
			_, err := io.WriteString(conn, said+"\n")
			failed <- err
		}()
		heard, err := from.ReadString('\n')
		if <-failed != nil || err != nil {
			return
		}
		if strings.TrimSuffix(heard, "\n") != said {
			t.Errorf("%d bytes were said to %s and other %d heard", len(said), u.to, len(heard))
			return
		}
		u.done.Add(1)
	}
}

// While any one node is down, does not move or does not hear from the leader, while links
// break and managers are replaced, every other node reaches every cluster, and only that
// which it means. Afterwards all do, and nothing is left of what broke.
func TestOneNodeIsNotMissed(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { t.Parallel(); chaos(t, seed) })
	}
}

func chaos(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	ids := []string{"pm-0", "pm-1", "pm-2"}
	p := newPlane(t, len(ids), quick)
	addresses, edit := p.stable(ids...)
	managers, starts := map[Cluster]*echo{}, 0
	start := func(c Cluster) {
		starts++
		managers[c] = p.serve(c, fmt.Sprintf("i-%03d", starts), addresses, func(conn net.Conn) {
			_, _ = fmt.Fprintf(conn, "%s\n", c.Name)
			_, _ = io.Copy(conn, conn)
		}, edit, func(o *AgentOptions) { o.Connections = 2 })
	}
	ctx, cancel := context.WithCancel(t.Context())
	var talking sync.WaitGroup
	t.Cleanup(talking.Wait)
	t.Cleanup(cancel)
	var users []*user
	for i := range 3 {
		c := Cluster{fmt.Sprintf("edge-%d", i), fmt.Sprintf("uid-%d", i)}
		start(c)
		for _, id := range ids {
			u := &user{from: id, to: c}
			users = append(users, u)
			talking.Go(func() { u.talk(ctx, p) })
		}
	}
	reach := func(while string, except string) {
		t.Helper()
		want := map[*user]int64{}
		for _, u := range users {
			if u.from != except {
				want[u] = u.done.Load() + 2 // the one under way may have been through before
			}
		}
		for u, n := range want {
			eventually(t, fmt.Sprintf("%s reaches %s while %s", u.from, u.to, while), func() bool { return u.done.Load() >= n })
		}
	}
	reach("all is well", "")
	faults := []string{"down", "frozen", "orphaned", "cut", "replaced"}
	for _, i := range random.Perm(len(faults)) {
		id, what := ids[random.IntN(len(ids))], faults[i]
		n := p.node(id)
		while := id + " is " + what
		switch what {
		case "down":
			n.down()
			reach(while, id)
			p.start(id, quick)
		case "frozen":
			n.net.freeze()
			reach(while, id)
			n.net.thaw()
		case "orphaned":
			n.orphan.Store(true)
			eventually(t, id+" has sent its agents away", func() bool { _, waiting, _ := n.hub.table.counts(); return waiting == 0 })
			reach(while, "") // it reaches those of the others
			n.orphan.Store(false)
		case "cut":
			n.net.cut()
			reach(while, "")
		case "replaced":
			for c, old := range managers {
				start(c)
				old.stop()
				break
			}
			reach("a manager is replaced", "")
		}
	}
	reach("all is well again", "")
	cancel()
	talking.Wait()
	eventually(t, "nothing is left of the connections", func() bool {
		active := 0.0
		for _, m := range managers {
			active += testutil.ToFloat64(m.metrics.active)
		}
		for _, id := range ids {
			_, _, of := p.node(id).hub.table.counts()
			active += float64(of + len(p.node(id).hub.standing()))
		}
		return active == 0
	})
}

// Many agents that lose their nodes at one moment are all back soon, and none is
// refused for coming with the others.
func TestAllAgentsComeBackAtOnce(t *testing.T) {
	const clusters = 80
	p := newPlane(t, 3)
	ids := []string{"pm-0", "pm-1", "pm-2"}
	addresses, edit := p.stable(ids...)
	var agents []*echo
	t.Cleanup(func() {
		var stopping sync.WaitGroup
		for _, e := range agents {
			stopping.Go(e.stop)
		}
		stopping.Wait()
	})
	for i := range clusters {
		agents = append(agents, p.attach(Cluster{fmt.Sprintf("edge-%d", i), fmt.Sprintf("uid-%d", i)}, "i-1", addresses, edit, func(o *AgentOptions) {
			o.RetryMin, o.RetryMax = 250*time.Millisecond, 2*time.Second
		}))
	}
	all := func(what string) {
		t.Helper()
		for _, id := range ids {
			if p.node(id) == nil {
				continue
			}
			eventually(t, id+" knows all "+what, func() bool { return len(p.node(id).hub.Attached()) == clusters })
		}
	}
	all("at first")
	p.node("pm-1").down()
	eventually(t, "all are at the other nodes", func() bool {
		n := 0
		for _, id := range []string{"pm-0", "pm-2"} {
			connections, _, _ := p.node(id).hub.table.counts()
			n += connections
		}
		return n == clusters
	})
	all("after the loss of a node")
	for _, id := range []string{"pm-0", "pm-2"} {
		p.node(id).down()
	}
	for _, id := range ids {
		p.start(id)
	}
	all("after a restart of all")
	for _, id := range ids {
		for _, reason := range []string{reasonRate, reasonLimit} {
			if n := testutil.ToFloat64(p.node(id).hub.metrics.refused.WithLabelValues(reason)); n != 0 {
				t.Errorf("%s has refused %v agents because of a %s", id, n, reason)
			}
		}
	}
	p.node("pm-2").dial(Cluster{"edge-7", "uid-7"})
}
