package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
)

// portTLS is the TLS of the gRPC port.
type portTLS struct {
	store *tlsfiles.Store // nil without TLS
	// config is nil without TLS.
	config *tls.Config
}

// openTLS reads the files of the port. What they lack is told before the port is open.
func openTLS(opts *options, log hclog.Logger) (*portTLS, error) {
	if opts.TLS.Cert == "" {
		return &portTLS{}, nil
	}
	store := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_crm", Logger: log.Named("tls")})
	certificate, clients, err := store.Load(opts.TLS)
	if err != nil {
		return nil, fmt.Errorf("TLS of --grpc-addr: %w", err)
	}
	if clients == nil {
		log.Warn("every client is let in: no --tls-client-ca")
	}
	return &portTLS{store: store, config: tlsfiles.Server{Certificate: certificate, Clients: clients, Names: opts.TLSClientNames}.Config()}, nil
}

// follow watches the files until ctx ends, and gives what waits for that.
func (p *portTLS) follow(ctx context.Context) (wait func()) {
	if p.store == nil {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.store.Run(ctx) })
	return func() {
		stop()
		watching.Wait()
	}
}

// collectors are the metrics of the files.
func (p *portTLS) collectors() []prometheus.Collector {
	if p.store == nil {
		return nil
	}
	return []prometheus.Collector{p.store}
}
