//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// sysProcAttr puts a child into its own session. There is no parent-death signal on this system.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}

func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
