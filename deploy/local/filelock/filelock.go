package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// retryEvery is how often a waiting process looks whether the lock is free. flock itself cannot be cancelled by a context.
const retryEvery = 100 * time.Millisecond

// ErrHeld says that another process, or another part of this one, holds the lock.
var ErrHeld = errors.New("the lock is held by another process")

// Lock is held until Release.
type Lock struct{ file *os.File }

// Try takes the lock or returns ErrHeld at once.
func Try(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrHeld
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file: f}, nil
}

// Acquire waits for the lock. waiting, if not nil, is called once when the lock turns out to be held.
func Acquire(ctx context.Context, path string, waiting func()) (*Lock, error) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		lock, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// Release gives the lock back. It may be called more than once.
func (l *Lock) Release() { _ = l.file.Close() }
