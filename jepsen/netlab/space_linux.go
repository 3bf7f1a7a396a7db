package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// device is the name of the network device in every namespace; there is one per namespace.
	device = "lab0"
	// deviceQueue is how many packets the kernel keeps for us while we do not get to read.
	deviceQueue = 4096
	// anonymousMount is where a mount namespace briefly sees its own file system before it is bound to etcHosts.
	anonymousMount = "/tmp"
	etcHosts       = "/etc/hosts"
	etcResolv      = "/etc/resolv.conf"
)

// space is a network namespace with its device, and the thread that lives in it.
type space struct {
	// net is the namespace, for other threads.
	net *os.File
	// tun is our end of the device.
	tun  *os.File
	mtu  int
	work chan func()
	// quit ends the thread, and done says that it has ended.
	quit, done chan struct{}
	once       sync.Once
}

// outer are the namespaces of this process, which a thread needs to come back.
var outer struct {
	once       sync.Once
	net, mount *os.File
	err        error
}

func openOuter() error {
	outer.once.Do(func() {
		if outer.net, outer.err = os.Open("/proc/thread-self/ns/net"); outer.err == nil {
			outer.mount, outer.err = os.Open("/proc/thread-self/ns/mnt")
		}
	})
	return outer.err
}

// openSpace makes a namespace and a device in it.
func openSpace(address netip.Prefix, mtu int) (*space, error) {
	if err := openOuter(); err != nil {
		return nil, fmt.Errorf("own namespaces: %w", err)
	}
	s := &space{mtu: mtu, work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	made := make(chan error, 1)
	go s.live(made)
	if err := <-made; err != nil {
		return nil, err
	}
	if err := s.do(func() error { return s.furnish(address) }); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// live is the thread of the space. It is never given back to the scheduler: it ends with the goroutine, and so do the
// processes that were forked from it.
func (s *space) live(made chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread of a process cannot end. While it is locked, another one takes the space.
		defer runtime.UnlockOSThread()
		taken := make(chan error)
		go s.live(taken)
		made <- <-taken
		return
	}
	defer close(s.done)
	// The root and working directory are the thread's own, else it could not change its mount namespace.
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_FS); err != nil {
		made <- fmt.Errorf("new network namespace: %w", err)
		return
	}
	var err error
	if s.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		made <- fmt.Errorf("new network namespace: %w", err)
		return
	}
	made <- nil
	for {
		select {
		case fn := <-s.work:
			fn()
		case <-s.quit:
			return
		}
	}
}

// do runs fn on the thread of the space.
func (s *space) do(fn func() error) error {
	result := make(chan error, 1)
	select {
	case s.work <- func() { result <- fn() }:
		return <-result
	case <-s.done:
		return os.ErrClosed
	}
}

// furnish makes the device, in the namespace of the thread.
func (s *space) furnish(address netip.Prefix) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(device)
	if err != nil {
		return fmt.Errorf("name of the device: %w", err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd) // nothing was written
		return fmt.Errorf("make device: %w", err)
	}
	// Only a descriptor that is a device by now can be waited for.
	s.tun = os.NewFile(uintptr(fd), "/dev/net/tun")
	// Without IPv6 in the kernel there is no such file, and nothing to turn off.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	return configure(address, s.mtu)
}

// configure gives the device its settings and brings it and loopback up.
func configure(address netip.Prefix, mtu int) error {
	return withInterfaces(func(set func(name string, request uint, fill func(*unix.Ifreq)) error) error {
		up := func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING) }
		return errors.Join(
			set("lo", unix.SIOCSIFFLAGS, up),
			set(device, unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(uint32(mtu)) }),
			set(device, unix.SIOCSIFTXQLEN, func(r *unix.Ifreq) { r.SetUint32(deviceQueue) }),
			readdress(set, address),
			set(device, unix.SIOCSIFFLAGS, up),
		)
	})
}

type setter func(name string, request uint, fill func(*unix.Ifreq)) error

// withInterfaces lets interfaces of the thread's namespace be set.
func withInterfaces(fn func(set func(name string, request uint, fill func(*unix.Ifreq)) error) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configure network: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	return fn(func(name string, request uint, fill func(*unix.Ifreq)) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
		fill(r)
		if err := unix.IoctlIfreq(fd, request, r); err != nil {
			return fmt.Errorf("configure %s (%#x): %w", name, request, err)
		}
		return nil
	})
}

// readdress replaces the address of the device.
func readdress(set setter, address netip.Prefix) error {
	var failed error
	inet := func(a [4]byte) func(*unix.Ifreq) {
		return func(r *unix.Ifreq) { failed = errors.Join(failed, r.SetInet4Addr(a[:])) }
	}
	mask := ^uint32(0) << (32 - address.Bits())
	return errors.Join(
		set(device, unix.SIOCSIFADDR, inet(address.Addr().As4())),
		set(device, unix.SIOCSIFNETMASK, inet([4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)})),
		failed,
	)
}

// move gives the device another address. Connections of the old one are dead.
func (s *space) move(address netip.Prefix) error {
	return s.do(func() error {
		return withInterfaces(func(set func(string, uint, func(*unix.Ifreq)) error) error { return readdress(set, address) })
	})
}

// visit runs fn on another thread in the network namespace. It may block.
func (s *space) visit(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(s.net.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter namespace: %w", err)
			return
		}
		err := fn()
		// A thread that does not come back is not unlocked, and ends with this goroutine.
		if unix.Setns(int(outer.net.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// fork runs start on the thread of the space, in a mount namespace that sees all that is mounted now, but for an /etc/hosts
// of its own. That file is returned; to write to it changes what the process sees.
func (s *space) fork(hosts []byte, start func() error) (*os.File, error) {
	var file *os.File
	err := s.do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("new mount namespace: %w", err)
		}
		// The thread goes back at once: it must not keep what is mounted from being unmounted.
		defer func() {
			if back := unix.Setns(int(outer.mount.Fd()), unix.CLONE_NEWNS); back != nil {
				err = errors.Join(err, fmt.Errorf("leave mount namespace: %w", back))
			}
		}()
		if file, err = bindHosts(hosts); err != nil {
			return err
		}
		return start()
	})
	if err != nil && file != nil {
		_ = file.Close() // nobody will write to it
		file = nil
	}
	return file, err
}

// bindHosts puts a file of the mount namespace's own over /etc/hosts, and an empty one over the resolver's configuration, so
// that a name that is not in the laboratory is not asked for outside.
func bindHosts(hosts []byte) (*os.File, error) {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("netlab", anonymousMount, "tmpfs", 0, "size=1m,mode=755"); err != nil {
		return nil, fmt.Errorf("mount hosts: %w", err)
	}
	file, err := os.OpenFile(anonymousMount+"/hosts", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("make hosts: %w", err)
	}
	_, err = file.WriteAt(hosts, 0)
	err = errors.Join(err,
		os.WriteFile(anonymousMount+"/resolv.conf", nil, 0o644),
		bind(anonymousMount+"/hosts", etcHosts), bind(anonymousMount+"/resolv.conf", etcResolv),
		unix.Unmount(anonymousMount, unix.MNT_DETACH))
	if err != nil {
		_ = file.Close() // nobody will read it
		return nil, fmt.Errorf("make hosts: %w", err)
	}
	return file, nil
}

// bind mounts one file over another. A machine without the latter has no need of it.
func bind(from, to string) error {
	err := unix.Mount(from, to, "", unix.MS_BIND, "")
	if err == nil || errors.Is(err, unix.ENOENT) && to == etcResolv {
		return nil
	}
	return fmt.Errorf("bind %s: %w", to, err)
}

// close removes the namespace, unless somebody else's sockets or processes are still in it, and ends the processes that
// were forked here.
func (s *space) close() {
	s.once.Do(func() {
		if s.tun != nil {
			_ = s.tun.Close() // packets that are lost now have nobody to go to
		}
		close(s.quit)
		<-s.done
		_ = s.net.Close() // only read
	})
}

// tried makes a namespace with a device, which tells more than any list of what is needed.
func tried() error {
	s, err := openSpace(netip.MustParsePrefix("10.0.0.1/16"), 1500)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrUnavailable, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	defer s.close()
	hosts, err := s.fork(nil, func() error { return nil })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return hosts.Close()
}
