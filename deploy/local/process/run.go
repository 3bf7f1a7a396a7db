package process

import (
	"os/exec"
	"syscall"
	"time"
)

// outputDelay is how long a killed helper's own children may keep its output open.
const outputDelay = 2 * time.Second

// Run is cmd.Run for a short helper program that must end with this process too. Context and output of cmd apply as usual.
// On cancellation the whole process group is killed, so that it also reaches what the program has started.
func Run(cmd *exec.Cmd) error {
	setGroup(cmd)
	if cmd.Cancel != nil {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = outputDelay
	}
	if err := onForkThread(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}
