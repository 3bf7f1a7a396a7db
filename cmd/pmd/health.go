package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"oaas.io/control-plane/dispatch"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/raftstore"
)

// bindHealth binds the deadlines by which clusters are suspected, and given up.
func bindHealth(l *liveness.Limits, fs *pflag.FlagSet) {
	fs.DurationVar(&l.Renewal, "cluster-renewal", 5*time.Second, "how often a cluster that is well is heard at least, and how often another node is asked to try to reach one that is not")
	fs.DurationVar(&l.Suspect, "cluster-suspect-after", 15*time.Second, "silence after which a cluster is Suspect")
	fs.DurationVar(&l.Unreachable, "cluster-unreachable-after", 30*time.Second, "silence after which a cluster is Unreachable, and how long the word of another node counts")
	fs.DurationVar(&l.Eligible, "cluster-failover-after", 5*time.Minute, "silence after which a cluster is FailoverEligible if another node does not reach it either")
	fs.DurationVar(&l.Return, "cluster-return-after", 10*time.Second, "how long a cluster must be in contact without a break to count as back")
	fs.BoolVar(&l.Unconfirmed, "cluster-failover-unconfirmed", false, "let a cluster be FailoverEligible although no other node could be asked, as in a control plane of one node")
}

// validateHealth refuses deadlines that are not in order.
func validateHealth(l *liveness.Limits) error {
	var errs []error
	previous, last := time.Duration(0), ""
	for _, f := range []struct {
		flag string
		d    time.Duration
	}{
		{"--cluster-renewal", l.Renewal},
		{"--cluster-suspect-after", l.Suspect},
		{"--cluster-unreachable-after", l.Unreachable},
		{"--cluster-failover-after", l.Eligible},
	} {
		switch {
		case f.d <= 0:
			errs = append(errs, fmt.Errorf("%s: must be positive", f.flag))
		case f.d <= previous:
			errs = append(errs, fmt.Errorf("%s: %s is not more than the %s of %s", f.flag, f.d, previous, last))
		}
		previous, last = f.d, f.flag
	}
	if l.Return <= 0 {
		errs = append(errs, errors.New("--cluster-return-after: must be positive"))
	}
	return errors.Join(errs...)
}

// observers are the other nodes, as observers of clusters.
type observers struct{ *raftstore.Node }

// Observers implements dispatch.Observers.
func (o observers) Observers() []dispatch.Observer {
	var out []dispatch.Observer
	for _, s := range o.Servers() {
		if s.Voter && s.ID != o.ServerID() {
			out = append(out, dispatch.Observer{ID: s.ID, Name: s.Name})
		}
	}
	return out
}
