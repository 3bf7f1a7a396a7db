//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/process"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(process.ForkLoop))
}

// patience is longer than anything takes that works.
const patience = 20 * time.Second

// newLab makes a laboratory with hosts. On a machine that cannot have one, the test ends here and says why; what the rules
// do to packets is tested without one.
func newLab(t testing.TB, hosts ...string) *Lab {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("only the rules are tested: %v", err)
	}
	l, err := New(Options{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	for _, name := range hosts {
		if _, err := l.AddHost(name); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// echo answers all connections to a port with what they say.
func echo(t testing.TB, h *Host, port int) {
	t.Helper()
	listener, err := h.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	done, end := context.WithCancel(context.Background())
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { _, _ = io.Copy(conn, conn) })
			// The other end may not be able to say that it is done.
			context.AfterFunc(done, func() { _ = conn.Close() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		end()
		serving.Wait()
	})
}

// say sends a text and reads it back.
func say(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	answer := make([]byte, len(text))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != text {
		return fmt.Errorf("got %q, want %q", answer, text)
	}
	return nil
}

func dial(t testing.TB, h *Host, address string) net.Conn {
	t.Helper()
	conn, err := h.Dial(within(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostsReachOneAnotherByName(t *testing.T) {
	l := newLab(t, "a", "b")
	echo(t, l.Host("b"), 80)
	conn := dial(t, l.Host("a"), "b:80")
	check(t, say(conn, strings.Repeat("x", 1<<20)))
	if got, _, _ := net.SplitHostPort(conn.LocalAddr().String()); got != l.Host("a").Addr().String() {
		t.Errorf("a dials as %s, want %s", got, l.Host("a").Addr())
	}
	counts, err := l.Counts("a", "b")
	check(t, err)
	if counts.Bytes < 1<<20 || counts.Packets == 0 || counts.Lost != 0 {
		t.Errorf("a to b: %+v, want a megabyte and no loss", counts)
	}
	// Nothing leads outside, not even to this machine.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if conn, err := l.Host("a").Dial(ctx, "tcp", "192.0.2.1:80"); err == nil {
		_ = conn.Close()
		t.Error("a host has a way out of the laboratory")
	}
	if _, err := l.Host("a").Dial(ctx, "tcp", "c:80"); !errors.Is(err, ErrUnknownHost) {
		t.Errorf("got %v, want ErrUnknownHost", err)
	}
}

func TestNames(t *testing.T) {
	l := newLab(t, "a")
	if _, err := l.AddHost("a"); err == nil {
		t.Error("a name was given twice")
	}
	if _, err := l.AddHost("A b"); err == nil {
		t.Error("a name with a space was taken")
	}
	if err := l.Cut("a", "b"); !errors.Is(err, ErrUnknownHost) {
		t.Errorf("got %v, want ErrUnknownHost", err)
	}
	if err := l.Cut("a", Any, 70000); err == nil {
		t.Error("port 70000 was taken")
	}
	if err := l.Shape(Any, Any, Shape{Loss: 2}); err == nil {
		t.Error("a loss of 200 % was taken")
	}
}

// datagrams are two hosts that send numbers to one another.
type datagrams struct {
	l    *Lab
	conn map[string]net.PacketConn
}

func newDatagrams(t testing.TB) *datagrams {
	d := &datagrams{l: newLab(t, "a", "b"), conn: map[string]net.PacketConn{}}
	for _, name := range []string{"a", "b"} {
		conn, err := d.l.Host(name).ListenPacket(7946)
		check(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		d.conn[name] = conn
	}
	return d
}

func (d *datagrams) send(t testing.TB, from, to, text string) {
	t.Helper()
	_, err := d.conn[from].WriteTo([]byte(text), &net.UDPAddr{IP: d.l.Host(to).Addr().AsSlice(), Port: 7946})
	check(t, err)
}

// receive gives the next text; it must come.
func (d *datagrams) receive(t testing.TB, at string) string {
	t.Helper()
	check(t, d.conn[at].SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 2000)
	n, _, err := d.conn[at].ReadFrom(buffer)
	check(t, err)
	return string(buffer[:n])
}

// lost waits until a pair has lost that many.
func (d *datagrams) lost(t testing.TB, from, to string, want uint64) {
	t.Helper()
	eventually(t, func() error {
		counts, err := d.l.Counts(from, to)
		if err == nil && counts.Lost != want {
			err = fmt.Errorf("%s to %s: %+v, want %d lost", from, to, counts, want)
		}
		return err
	})
}

func eventually(t testing.TB, holds func() error) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestCutIsOfOneDirection(t *testing.T) {
	d := newDatagrams(t)
	check(t, d.l.Cut("a", "b"))
	d.send(t, "a", "b", "lost")
	d.lost(t, "a", "b", 1)
	d.send(t, "b", "a", "passes")
	if got := d.receive(t, "a"); got != "passes" {
		t.Errorf("got %q", got)
	}
	check(t, d.l.Heal("a", "b"))
	d.send(t, "a", "b", "healed")
	if got := d.receive(t, "b"); got != "healed" {
		t.Errorf("got %q", got)
	}
}

func TestCutOfPortsLeavesOthers(t *testing.T) {
	d := newDatagrams(t)
	echo(t, d.l.Host("b"), 80)
	conn := dial(t, d.l.Host("a"), "b:80")
	check(t, d.l.Cut("a", "b", 1, 7946))
	check(t, d.l.Cut("b", "a", 7946))
	d.send(t, "a", "b", "lost")
	d.lost(t, "a", "b", 1)
	check(t, say(conn, "other ports work"))
	check(t, d.l.Cut("a", "b", 80))
	check(t, conn.SetDeadline(time.Now().Add(300*time.Millisecond)))
	if err := say(conn, "lost"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want nothing until the deadline", err)
	}
	// TCP sends again what was lost, so that a connection outlives a cut.
	d.l.HealAll()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	answer := make([]byte, 4)
	_, err := io.ReadFull(conn, answer)
	check(t, err)
	if string(answer) != "lost" {
		t.Errorf("got %q", answer)
	}
}

func TestAnyMeansHostsThatComeLater(t *testing.T) {
	l := newLab(t, "a", "b")
	check(t, l.Cut(Any, "b"))
	if _, err := l.AddHost("c"); err != nil {
		t.Fatal(err)
	}
	echo(t, l.Host("b"), 80)
	echo(t, l.Host("c"), 80)
	for _, from := range []string{"a", "c"} {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if conn, err := l.Host(from).Dial(ctx, "tcp", "b:80"); err == nil {
			_ = conn.Close()
			t.Errorf("%s reaches b", from)
		}
		cancel()
	}
	check(t, say(dial(t, l.Host("a"), "c:80"), "not cut"))
	check(t, l.Heal(Any, "b"))
	check(t, say(dial(t, l.Host("c"), "b:80"), "healed"))
	if _, err := l.AddHost("d"); err != nil {
		t.Fatal(err)
	}
	check(t, say(dial(t, l.Host("d"), "b:80"), "healed for all"))
}

func TestDelayKeepsTheOrder(t *testing.T) {
	d := newDatagrams(t)
	const delay = 60 * time.Millisecond
	check(t, d.l.Shape("a", "b", Shape{Delay: delay, Jitter: 40 * time.Millisecond}))
	began := time.Now()
	const count = 100
	for i := range count {
		d.send(t, "a", "b", fmt.Sprint(i))
	}
	for i := range count {
		if got := d.receive(t, "b"); got != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
		if took := time.Since(began); took < delay {
			t.Fatalf("%d came after %v, want %v at least", i, took, delay)
		}
	}
	// What comes after the shape was healed does not overtake what is still held.
	d.send(t, "a", "b", "slow")
	eventually(t, func() error {
		if k := d.l.Host("a").waysLocked()[1]; k.waiting.Load() != 1 {
			return errors.New("it is not held back")
		}
		return nil
	})
	check(t, d.l.Heal("a", "b"))
	d.send(t, "a", "b", "fast")
	if first, second := d.receive(t, "b"), d.receive(t, "b"); first != "slow" || second != "fast" {
		t.Errorf("got %s before %s", first, second)
	}
}

func TestCutLosesWhatIsUnderWay(t *testing.T) {
	d := newDatagrams(t)
	check(t, d.l.Shape("a", "b", Shape{Delay: 100 * time.Millisecond}))
	d.send(t, "a", "b", "under way")
	eventually(t, func() error {
		if k := d.l.Host("a").waysLocked()[1]; k.waiting.Load() != 1 {
			return errors.New("it is not held back")
		}
		return nil
	})
	check(t, d.l.Cut("a", "b"))
	d.lost(t, "a", "b", 1)
}

func TestLossIsOfTheSeed(t *testing.T) {
	pattern := func() string {
		d := newDatagrams(t)
		defer d.l.Close()
		check(t, d.l.Shape("a", "b", Shape{Loss: 0.3}))
		const count = 300
		for i := range count {
			d.send(t, "a", "b", fmt.Sprint(i))
			eventually(t, func() error {
				if c, err := d.l.Counts("a", "b"); err != nil || c.Packets+c.Lost <= uint64(i) {
					return fmt.Errorf("%d is not there: %+v %w", i, c, err)
				}
				return nil
			})
		}
		counts, err := d.l.Counts("a", "b")
		check(t, err)
		if part := float64(counts.Lost) / count; math.Abs(part-0.3) > 0.1 {
			t.Errorf("%.2f of the packets were lost, want 0.3", part)
		}
		var got []string
		for range counts.Packets {
			got = append(got, d.receive(t, "b"))
		}
		return strings.Join(got, " ")
	}
	if first, second := pattern(), pattern(); first != second {
		t.Errorf("two runs of one seed lost different packets:\n%s\n%s", first, second)
	}
}

func TestRate(t *testing.T) {
	l := newLab(t, "a", "b")
	echo(t, l.Host("b"), 80)
	conn := dial(t, l.Host("a"), "b:80")
	check(t, l.Shape("a", "b", Shape{Rate: 1 << 20}))
	began := time.Now()
	check(t, say(conn, strings.Repeat("x", 1<<19)))
	if took := time.Since(began); took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("half a megabyte took %v at a megabyte per second", took)
	}
}

func TestObserverSeesWhatIsLost(t *testing.T) {
	d := newDatagrams(t)
	seen := make(chan string, 10)
	d.l.Observe(func(from, to string, packet []byte, passes bool) {
		seen <- fmt.Sprintf("%s%s %v %s", from, to, passes, packet[28:])
	})
	d.send(t, "a", "b", "x")
	if got := <-seen; got != "ab true x" {
		t.Errorf("got %q", got)
	}
	check(t, d.l.Cut("b", Any))
	d.send(t, "b", "a", "y")
	if got := <-seen; !strings.Contains(got, "false") {
		t.Errorf("got %q", got)
	}
	d.l.Observe(nil)
}

func TestMovedHostsAreFoundByName(t *testing.T) {
	l := newLab(t, "a", "b")
	echo(t, l.Host("b"), 80)
	old := dial(t, l.Host("a"), "b:80")
	check(t, say(old, "before"))
	was := l.Host("b").Addr()
	check(t, l.Host("b").Move())
	if l.Host("b").Addr() == was {
		t.Fatal("b has not moved")
	}
	check(t, say(dial(t, l.Host("a"), "b:80"), "after"))
	check(t, old.SetDeadline(time.Now().Add(200*time.Millisecond)))
	if err := say(old, "dead"); err == nil {
		t.Error("a connection to the old address works")
	}
}

func TestProcessesSeeTheNamesOfNow(t *testing.T) {
	l := newLab(t, "a", "b")
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	// It shows its view whenever the file "again" appears.
	const script = `show() { cat /etc/hosts; echo addresses of $(cat /proc/net/fib_trie | grep -c 'LOCAL'); echo end $1; }
show 1; read line < "$0"/fifo; show 2; exec sleep 1000`
	check(t, mkfifo(filepath.Join(dir, "fifo")))
	p, err := l.Host("a").Start(process.Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", script, dir}, LogFile: log})
	check(t, err)
	shown := func(n int) string {
		end := fmt.Sprintf("end %d\n", n)
		var text string
		eventually(t, func() error {
			raw, err := os.ReadFile(log)
			if text = string(raw); err == nil && !strings.Contains(text, end) {
				err = fmt.Errorf("no %q in %q", end, text)
			}
			return err
		})
		return text
	}
	want := func(text string, h *Host) {
		t.Helper()
		if !strings.Contains(text, h.Addr().String()+" "+h.Name()+" ") {
			t.Errorf("%s %s is not in\n%s", h.Addr(), h.Name(), text)
		}
	}
	first := shown(1)
	want(first, l.Host("a"))
	want(first, l.Host("b"))
	check(t, l.Host("b").Move())
	_, err = l.AddHost("c")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "fifo"), []byte("go\n"), 0))
	second := strings.TrimPrefix(shown(2), first)
	want(second, l.Host("b"))
	want(second, l.Host("c"))
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), "netlab") {
		t.Errorf("this process sees the mounts of its children: %v\n%s", err, mounts)
	}
	l.Close()
	select {
	case <-p.Done():
	case <-within(t).Done():
		t.Fatal("the process outlives its laboratory")
	}
}

func TestRemovedHostsAreGone(t *testing.T) {
	l := newLab(t, "a", "b")
	p, err := l.Host("b").Start(process.Spec{Name: "sleep", Path: "/bin/sleep", Args: []string{"1000"}, LogFile: filepath.Join(t.TempDir(), "log")})
	check(t, err)
	b := l.Host("b")
	b.Remove()
	<-p.Done()
	if l.Host("b") != nil || len(l.Hosts()) != 1 {
		t.Errorf("b is there: %v", l.Hosts())
	}
	if err := b.Move(); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := b.Listen(80); err == nil {
		t.Error("a host that is gone listens")
	}
	_, err = l.AddHost("b")
	check(t, err)
	echo(t, l.Host("b"), 80)
	check(t, say(dial(t, l.Host("a"), "b:80"), "new"))
}

func TestProcessesSeeWhatIsMountedBeforeTheyStart(t *testing.T) {
	l := newLab(t, "a")
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	check(t, os.Mkdir(disk, 0o700))
	// The host is older than the mount.
	check(t, mount(disk))
	unmounted := false
	defer func() {
		if !unmounted {
			_ = unmount(disk)
		}
	}()
	p, err := l.Host("a").Start(process.Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "touch disk/seen; exec sleep 1000"}, Dir: dir, LogFile: filepath.Join(dir, "log")})
	check(t, err)
	eventually(t, func() error {
		_, err := os.Stat(filepath.Join(disk, "seen"))
		return err
	})
	p.Kill()
	// Nothing of the laboratory keeps it once the process is gone.
	eventually(t, func() error { return unmount(disk) })
	unmounted = true
	if _, err := os.Stat(filepath.Join(disk, "seen")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the process has written beside the mount: %v", err)
	}
}
