package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/cmd/internal/version"
	"oaas.io/control-plane/tunnel"
)

const (
	// minToken and maxToken bound the length of a token, as pmd does.
	minToken, maxToken = 32, 512
	maxAddresses       = 32
)

// controlPlaneOptions are the settings of connections to a control plane that cannot
// dial this manager.
type controlPlaneOptions struct {
	Addresses []string
	tlsfiles.Sides
	ServerName  string
	TokenFile   string
	Plaintext   bool
	Connections int
	RetryMax    time.Duration
}

func (o *controlPlaneOptions) bind(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Addresses, "control-plane", nil, "host:port of --agent-addr of package managers, one or several: for clusters that they cannot dial; empty connects to none")
	fs.StringVar(&o.CA, "control-plane-tls-ca", "", "PEM file with the authorities of the certificates of package managers (default: the system's)")
	fs.StringVar(&o.Cert, "control-plane-tls-cert", "", "PEM file with the certificate that is shown to package managers, and those between it and its authority. Read again when it changes")
	fs.StringVar(&o.Key, "control-plane-tls-key", "", "PEM file with the key of --control-plane-tls-cert")
	fs.StringVar(&o.ServerName, "control-plane-tls-server-name", "", "name that the certificate of a package manager must have (default: the host that is dialled)")
	fs.StringVar(&o.TokenFile, "control-plane-token-file", "", "file with the token that is shown to package managers. Read for every connection")
	fs.BoolVar(&o.Plaintext, "control-plane-plaintext", false, "connect to package managers without TLS")
	fs.IntVar(&o.Connections, "control-plane-connections", 2, "connections that are kept, to different addresses where there are several")
	fs.DurationVar(&o.RetryMax, "control-plane-retry-max", 10*time.Second, "longest pause between attempts to connect")
}

// Validate refuses half a configuration: it would be less safe than it looks.
func (o *controlPlaneOptions) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Addresses) > maxAddresses {
		bad("--control-plane: %d addresses are more than %d", len(o.Addresses), maxAddresses)
	}
	for _, address := range o.Addresses {
		if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
			bad("--control-plane: %q is not host:port", address)
		}
	}
	switch {
	case len(o.Addresses) == 0 && (o.Sides != tlsfiles.Sides{} || o.ServerName != "" || o.TokenFile != "" || o.Plaintext):
		bad("--control-plane: is missing, and other settings of it are there")
	case o.Cert != "" && o.Key == "":
		bad("--control-plane-tls-cert: needs --control-plane-tls-key")
	case o.Cert == "" && o.Key != "":
		bad("--control-plane-tls-key: needs --control-plane-tls-cert")
	case o.Plaintext && (o.Sides != tlsfiles.Sides{} || o.ServerName != ""):
		bad("--control-plane-plaintext: excludes the settings of TLS")
	case o.Plaintext && o.TokenFile != "":
		bad("--control-plane-plaintext: excludes --control-plane-token-file, which anybody on the way could read")
	}
	if o.Connections < 1 || o.Connections > 8 {
		bad("--control-plane-connections: %d is not within 1..8", o.Connections)
	}
	if o.RetryMax < time.Second {
		bad("--control-plane-retry-max: %v is below 1s", o.RetryMax)
	}
	return errors.Join(errs...)
}

// openTunnel makes what keeps the connections; nil when there are to be none.
func openTunnel(opts *options, store *tlsfiles.Store, log hclog.Logger) (*tunnel.Agent, error) {
	o := &opts.ControlPlane
	if len(o.Addresses) == 0 {
		return nil, nil
	}
	dial, err := o.dialOptions(store)
	if err != nil {
		return nil, err
	}
	if o.Plaintext {
		log.Warn("connections to the control plane are made without TLS: anyone on the way can read and change what they carry")
	}
	return tunnel.NewAgent(tunnel.AgentOptions{
		Cluster: opts.Name, Version: version.Version, Addresses: o.Addresses, DialOptions: dial, Connections: o.Connections, RetryMax: o.RetryMax,
		Logger: log.Named("tunnel"),
	})
}

// dialOptions gives the credentials of every attempt, with what the files hold then.
func (o *controlPlaneOptions) dialOptions(store *tlsfiles.Store) (func() ([]grpc.DialOption, error), error) {
	if o.Plaintext {
		return func() ([]grpc.DialOption, error) {
			return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
		}, nil
	}
	certificate, roots, err := store.Load(o.Sides)
	if err != nil {
		return nil, fmt.Errorf("TLS of --control-plane: %w", err)
	}
	client := tlsfiles.Client{Certificate: certificate, Roots: roots, ServerName: o.ServerName}
	if o.TokenFile != "" {
		// What is wrong with it is told at the start.
		if _, err := readToken(o.TokenFile); err != nil {
			return nil, fmt.Errorf("--control-plane-token-file: %w", err)
		}
	}
	return func() ([]grpc.DialOption, error) {
		out := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(client.Config()))}
		if o.TokenFile == "" {
			return out, nil
		}
		token, err := readToken(o.TokenFile)
		if err != nil {
			return nil, err
		}
		return append(out, grpc.WithPerRPCCredentials(bearer(token))), nil
	}, nil
}

// readToken gives the first line of a file.
func readToken(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if info.Size() > 4*maxToken {
		return "", fmt.Errorf("%s: has %d bytes, which is no token", file, info.Size())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: a token is one line of %d to %d visible ASCII characters", file, minToken, maxToken)
	}
	return token, nil
}

// bearer shows a token with every call, over TLS only.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (bearer) RequireTransportSecurity() bool { return true }

// collectorsOf are the metrics of an agent, if there is one.
func collectorsOf(agent *tunnel.Agent) []prometheus.Collector {
	if agent == nil {
		return nil
	}
	return agent.Collectors()
}
