package process

import (
	"runtime"
	"sync"
)

// forks carries work to the thread that makes all children; see the package comment for why there is only one.
var (
	forks     = make(chan func())
	forksOnce sync.Once
)

// onForkThread runs fn on the thread that lives as long as this process.
func onForkThread(fn func() error) error {
	forksOnce.Do(func() { go forkLoop() })
	result := make(chan error, 1)
	forks <- func() { result <- fn() }
	return <-result
}

// forkLoop owns the thread that forks all children. It never returns: the end of its thread would kill every child.
// goleak sees it as a goroutine of this package that stays; tests name it with goleak.IgnoreTopFunction(ForkLoop).
func forkLoop() {
	runtime.LockOSThread()
	for fork := range forks {
		fork()
	}
}

// ForkLoop is the name of the one goroutine that stays after all processes have ended, for goleak.IgnoreTopFunction.
const ForkLoop = "oaas.io/control-plane/deploy/local/process.forkLoop"
