package run

import (
	"context"
	"errors"

	"oaas.io/control-plane/deploy/local/workdir"
	"oaas.io/control-plane/jepsen/nemesis"
)

// Missing starts a cluster for a moment, and tells which nemeses cannot be done to it, with the reasons: what can be done depends on
// what the cluster is made of as much as on the machine.
func Missing(ctx context.Context, options Options) (map[string]string, error) {
	o := options.withDefaults()
	work, err := workdir.New("", "chaos-list")
	if err != nil {
		return nil, err
	}
	defer work.Remove() //nolint:errcheck // a temporary directory
	s, err := startStack(ctx, work.Path, o)
	if err != nil {
		return nil, err
	}
	_, cannot := nemesis.Split(s.target, nemesis.All())
	missing := map[string]string{}
	for _, m := range cannot {
		missing[m.Name] = oneLine(m.Reason)
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return missing, errors.Join(s.stop(stopCtx))
}
