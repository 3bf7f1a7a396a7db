package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/discovery"
)

// clusterMark stands for the name of the cluster in --crm-tls-server-name.
const clusterMark = "{cluster}"

// crmOptions are the settings of TLS towards the managers of clusters.
type crmOptions struct {
	tlsfiles.Sides
	// ServerName of their certificates, with clusterMark in it; empty means the host.
	ServerName string
	// Required refuses to speak without TLS.
	Required bool

	// interval is between two looks at the files; 0 is the usual one.
	interval time.Duration
}

func (o *crmOptions) bind(fs *pflag.FlagSet) {
	fs.StringVar(&o.CA, "crm-tls-ca", "", "PEM file with the authorities of the certificates of crm (default: the system's)")
	fs.StringVar(&o.Cert, "crm-tls-cert", "", "PEM file with the certificate that is shown to crm, and those between it and its authority. Read again when it changes")
	fs.StringVar(&o.Key, "crm-tls-key", "", "PEM file with the key of --crm-tls-cert")
	fs.StringVar(&o.ServerName, "crm-tls-server-name", "", "name that the certificate of a crm must have, with {cluster} for the cluster's name (default: the host that is dialled)")
	fs.BoolVar(&o.Required, "crm-tls-required", false, "connect to no crm without TLS, whatever its URL or its announcement says")
}

// Validate refuses half a configuration.
func (o *crmOptions) Validate() error {
	var errs []error
	switch {
	case o.Cert != "" && o.Key == "":
		errs = append(errs, errors.New("--crm-tls-cert: needs --crm-tls-key"))
	case o.Cert == "" && o.Key != "":
		errs = append(errs, errors.New("--crm-tls-key: needs --crm-tls-cert"))
	}
	if name := o.serverName("cluster"); strings.ContainsAny(name, "{}/: ") {
		errs = append(errs, fmt.Errorf("--crm-tls-server-name: %q is no host name with or without %s", o.ServerName, clusterMark))
	}
	return errors.Join(errs...)
}

func (o *crmOptions) serverName(cluster string) string {
	return strings.ReplaceAll(o.ServerName, clusterMark, cluster)
}

// clusterTLS knows how to connect to each cluster's manager.
type clusterTLS struct {
	opts  *crmOptions
	store *tlsfiles.Store
	// common is how to connect to all, static to those with settings of their own.
	common tlsfiles.Client
	static map[string]staticTLS
}

// staticTLS is how to connect to one statically configured cluster. It counts for the
// address of the configuration only: what a cluster was configured to accept from
// there must not be accepted from elsewhere.
type staticTLS struct {
	address string
	client  tlsfiles.Client
}

// openClusterTLS reads all files.
func openClusterTLS(opts *crmOptions, clusters []discovery.Candidate, log hclog.Logger) (*clusterTLS, error) {
	store := tlsfiles.New(tlsfiles.Options{Namespace: "oaas_pm", Logger: log.Named("tls"), Interval: opts.interval})
	t := &clusterTLS{opts: opts, store: store, static: map[string]staticTLS{}}
	var err error
	if t.common.Certificate, t.common.Roots, err = t.store.Load(opts.Sides); err != nil {
		return nil, fmt.Errorf("--crm-tls-cert, --crm-tls-key, --crm-tls-ca: %w", err)
	}
	for _, c := range clusters {
		_, secure := discovery.SplitAddress(c.Address)
		if !secure && opts.Required {
			return nil, fmt.Errorf("cluster %q: its URL does not begin with https://, and --crm-tls-required is set", c.Name)
		}
		if !secure || c.TLS == nil {
			continue
		}
		client, err := t.configured(c.Name, c.TLS)
		if err != nil {
			return nil, fmt.Errorf("TLS settings of cluster %q: %w", c.Name, err)
		}
		t.static[c.Name] = staticTLS{address: c.Address, client: client}
	}
	return t, nil
}

// configured is what a cluster's settings make of the common ones.
func (t *clusterTLS) configured(cluster string, settings *discovery.TLS) (tlsfiles.Client, error) {
	client := t.client(cluster)
	certificate, roots, err := t.store.Load(tlsfiles.Sides{Cert: settings.ClientCert, Key: settings.ClientKey, CA: settings.CACert})
	if err != nil {
		return client, err
	}
	if certificate != nil {
		client.Certificate = certificate
	}
	if roots != nil {
		client.Roots = roots
	}
	if settings.ServerName != "" {
		client.ServerName = settings.ServerName
	}
	client.Insecure = settings.Insecure
	return client, nil
}

// client is how to connect to a cluster without settings of its own.
func (t *clusterTLS) client(cluster string) tlsfiles.Client {
	client := t.common
	client.ServerName = t.opts.serverName(cluster)
	return client
}

// credentials are those of connections to the manager of a cluster at an address.
func (t *clusterTLS) credentials(cluster, address string) credentials.TransportCredentials {
	if _, secure := discovery.SplitAddress(address); !secure {
		if t.opts.Required {
			return refusing{}
		}
		return insecure.NewCredentials()
	}
	if own, ok := t.static[cluster]; ok && own.address == address {
		return trusting{own.client}
	}
	return trusting{t.client(cluster)}
}
