package filelock_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"oaas.io/control-plane/deploy/local/filelock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := filelock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Try(path); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("second holder: got %v, want ErrHeld", err)
	}
	waits := make(chan struct{})
	got := make(chan error, 1)
	go func() {
		lock, err := filelock.Acquire(context.Background(), path, func() { close(waits) })
		if err == nil {
			lock.Release()
		}
		got <- err
	}()
	<-waits
	first.Release()
	first.Release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestAcquireEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder, err := filelock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := filelock.Acquire(ctx, path, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestTryInAMissingDirectory(t *testing.T) {
	if _, err := filelock.Try(filepath.Join(t.TempDir(), "none", "lock")); err == nil {
		t.Error("want an error")
	}
}
