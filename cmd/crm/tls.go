package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
)

// portTLS is the TLS of the gRPC port, and the files of all TLS.
type portTLS struct {
	store *tlsfiles.Store
	// config is nil without TLS.
	config *tls.Config
}

// openTLS reads the files of the port. What they lack is told before the port is open.
func openTLS(opts *options, log hclog.Logger) (*portTLS, error) {
	store := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_crm", Logger: log.Named("tls")})
	if opts.TLS.Cert == "" {
		return &portTLS{store: store}, nil
	}
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
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.store.Run(ctx) })
	return func() {
		stop()
		watching.Wait()
	}
}
