package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// patience is how long a process is tried to be stopped outside its vDSO.
	patience = 5 * time.Second
	// pause is between two looks.
	pause = 200 * time.Microsecond
)

// target is a process whose vDSO is written.
type target struct {
	pid  int
	proc *os.Process
	mem  *os.File
	// base and end are where its vDSO is.
	base, end uint64
}

// attach opens a process. What was opened is the process of now: a number that is given to
// another one later does no harm.
func attach(pid int) (*target, error) {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	t := &target{pid: pid, proc: proc}
	if err := t.open(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *target) open() error {
	maps, err := os.ReadFile(t.path("maps"))
	if err != nil {
		return gone(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &t.base, &t.end); err != nil {
			return fmt.Errorf("clock: reading where the vDSO is: %w", err)
		}
	}
	if t.end == 0 {
		return fmt.Errorf("clock: process %d has no vDSO", t.pid)
	}
	if t.mem, err = os.OpenFile(t.path("mem"), os.O_RDWR, 0); err != nil {
		return gone(err)
	}
	return nil
}

func (t *target) close() {
	_ = t.proc.Release() // nothing waits for it
	if t.mem != nil {
		_ = t.mem.Close() // what was written was written
	}
}

func (t *target) path(name string) string { return fmt.Sprintf("/proc/%d/%s", t.pid, name) }

// gone gives errors that mean it one form.
func gone(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ESRCH), errors.Is(err, os.ErrProcessDone):
		return fmt.Errorf("%w: %w", ErrGone, err)
	default:
		return fmt.Errorf("clock: %w", err)
	}
}

func (t *target) read(b []byte, at uint64) error {
	_, err := t.mem.ReadAt(b, int64(at)) //nolint:gosec // an address in user space
	return t.access(err)
}

func (t *target) writeAll(code map[uint64][]byte) error {
	for at, bin := range code {
		if _, err := t.mem.WriteAt(bin, int64(at)); err != nil { //nolint:gosec // an address in user space
			return t.access(err)
		}
	}
	return nil
}

// access explains why memory was not reached: that of a process that has ended is empty.
func (t *target) access(err error) error {
	if err == nil {
		return nil
	}
	if threads, terr := t.threads(); terr != nil || len(threads) == 0 {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return fmt.Errorf("clock: %w", err)
}

// patch gives what is to be written where, and where the offset then is. The stub goes behind
// the end of the library, where its last page has nothing; the functions begin with a jump
// there. What is behind these jumps stays, so a thread that is in a function goes on in it.
func (t *target) patch() (map[uint64][]byte, uint64, error) {
	image := make([]byte, t.end-t.base)
	if err := t.read(image, t.base); err != nil {
		return nil, 0, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, 0, fmt.Errorf("clock: the vDSO of process %d: %w", t.pid, err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, 0, fmt.Errorf("clock: the vDSO of process %d: %w", t.pid, err)
	}
	free := (length(image, file) + 15) &^ 15
	if free+uint64(len(stub)) > uint64(len(image)) {
		return nil, 0, fmt.Errorf("clock: the vDSO of process %d has no room", t.pid)
	}
	code := map[uint64][]byte{t.base + free: stub}
	for name, entry := range entries {
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name })
		if i < 0 || symbols[i].Size < jumpSize {
			return nil, 0, fmt.Errorf("clock: the vDSO of process %d has no %s", t.pid, name)
		}
		at := t.base + symbols[i].Value
		code[at] = jump(at, t.base+free+entry)
	}
	return code, t.base + free + stubCode, nil
}

// length is where a library ends in its image.
func length(image []byte, file *elf.File) uint64 {
	var header elf.Header64
	// The image is longer than a header: the library was read from it.
	_ = binary.Read(bytes.NewReader(image), binary.LittleEndian, &header)
	end := header.Shoff + uint64(header.Shnum)*uint64(header.Shentsize)
	for _, p := range file.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	return end
}

// replace writes code while no thread of the process runs or is inside of what is replaced.
// A process that somebody else has stopped stays stopped.
func (t *target) replace(code map[uint64][]byte) error {
	deadline := time.Now().Add(patience)
	for {
		stopped, err := t.stopped()
		if err != nil {
			return err
		}
		if !stopped {
			if err := gone(t.proc.Signal(syscall.SIGSTOP)); err != nil {
				return err
			}
		}
		outside, err := t.settle(code, deadline)
		if err == nil && outside {
			err = t.writeAll(code)
		}
		if !stopped {
			err = errors.Join(err, gone(t.proc.Signal(syscall.SIGCONT)))
		}
		if err != nil || outside {
			return err
		}
		if stopped || time.Now().After(deadline) {
			return fmt.Errorf("%w: process %d stands in its vDSO", ErrRestless, t.pid)
		}
		<-time.After(pause)
	}
}

// stopped tells whether the process is stopped.
func (t *target) stopped() (bool, error) {
	threads, err := t.threads()
	if err != nil {
		return false, err
	}
	for _, tid := range threads {
		state, err := t.state(tid)
		if err == nil && state != 'T' {
			return false, nil
		}
	}
	return true, nil
}

// settle waits until no thread runs, and tells whether all of them are outside some code.
func (t *target) settle(code map[uint64][]byte, deadline time.Time) (bool, error) {
	for {
		still, outside, err := t.look(code)
		switch {
		case err != nil:
			return false, err
		case still:
			return outside, nil
		case time.Now().After(deadline):
			return false, fmt.Errorf("%w: process %d does not stop", ErrRestless, t.pid)
		}
		<-time.After(pause)
	}
}

func (t *target) look(code map[uint64][]byte) (still, outside bool, err error) {
	threads, err := t.threads()
	if err != nil {
		return false, false, err
	}
	outside = true
	for _, tid := range threads {
		state, err := t.state(tid)
		switch {
		case errors.Is(err, ErrGone):
			continue // a thread has ended, or the process, which the next step finds
		case err != nil:
			return false, false, err
		case strings.IndexByte("TtDZX", state) < 0:
			// A thread in D waits for a disk: it runs nothing of its own before it
			// has stopped.
			return false, false, nil
		case state == 'Z' || state == 'X':
			continue
		}
		counter, call, err := t.counter(tid)
		if err != nil {
			return false, false, err
		}
		if counter == 0 {
			return false, false, nil
		}
		handling, err := t.handling(tid, call)
		if err != nil {
			return false, false, err
		}
		outside = outside && !handling && !inside(counter, code)
	}
	return true, outside, nil
}

// inside tells whether a thread has done a part of some code.
func inside(counter uint64, code map[uint64][]byte) bool {
	for at, bin := range code {
		if counter > at && counter < at+uint64(len(bin)) {
			return true
		}
	}
	return false
}

// threads gives the numbers of the process's threads.
func (t *target) threads() ([]int, error) {
	entries, err := os.ReadDir(t.path("task"))
	if err != nil {
		return nil, gone(err)
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// state gives what a thread does, as ps tells it.
func (t *target) state(tid int) (byte, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", t.pid, tid))
	if err != nil {
		return 0, gone(err)
	}
	// The name of the thread stands before it in parentheses and may contain some.
	_, after, ok := bytes.Cut(raw[bytes.LastIndexByte(raw, ')')+1:], []byte(" "))
	if !ok || len(after) == 0 {
		return 0, fmt.Errorf("clock: the state of thread %d is %.60q", tid, raw)
	}
	return after[0], nil
}

// counter gives where a thread is, 0 when it runs, and which system call it is in, negative
// for none.
func (t *target) counter(tid int) (counter uint64, call int, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", t.pid, tid))
	if err != nil {
		return 0, 0, gone(err)
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 3 {
		return 0, 0, nil
	}
	call, err = strconv.Atoi(fields[0])
	if err == nil {
		counter, err = strconv.ParseUint(fields[len(fields)-1], 0, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("clock: thread %d is at %.60q", tid, raw)
	}
	return counter, call, nil
}

// handling tells whether a thread may be in a signal handler, which may return to where it
// was in code that is replaced. Go's block all signals; beside them only the steps of making
// a thread do.
func (t *target) handling(tid, call int) (bool, error) {
	if call == syscall.SYS_CLONE || call == syscall.SYS_RT_SIGPROCMASK {
		return false, nil
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", t.pid, tid))
	if err != nil {
		return false, gone(err)
	}
	for line := range strings.Lines(string(raw)) {
		value, ok := strings.CutPrefix(line, "SigBlk:")
		if !ok {
			continue
		}
		blocked, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return false, fmt.Errorf("clock: what thread %d blocks is %.60q", tid, value)
		}
		return blocked&(1<<(syscall.SIGURG-1)) != 0, nil
	}
	return false, fmt.Errorf("clock: it is not told what thread %d blocks", tid)
}

// jumpSize is the length of a jump.
const jumpSize = 5

// jump is the instruction at an address that goes to another.
func jump(from, to uint64) []byte {
	return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(to-from-jumpSize)) //nolint:gosec // both are in one small library
}
