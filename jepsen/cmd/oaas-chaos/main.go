package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitKept = iota
	exitBroken
	exitCannot
)

// errBroken means that a promise was not kept. What and how was printed already.
var errBroken = errors.New("a promise was broken")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil && !errors.Is(err, errBroken) {
		fmt.Fprintln(os.Stderr, "oaas-chaos:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitKept
	case errors.Is(err, errBroken):
		return exitBroken
	default:
		return exitCannot
	}
}

func command() *cobra.Command {
	root := runCommand()
	root.AddCommand(proveCommand())
	root.SilenceUsage, root.SilenceErrors = true, true
	return root
}
