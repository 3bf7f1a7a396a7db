package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"oaas.io/control-plane/cmd/pmctl/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], command.System())
	stop()
	os.Exit(code)
}
