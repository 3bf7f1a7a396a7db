package api

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is a registry that metrics are put into and served from.
type Metrics interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Options configure a Server. Zero values take the defaults.
type Options struct {
	Registry Registry
	Cluster  Cluster
	// Metrics receives the API's metrics and is served at /metrics.
	Metrics Metrics
	Logger  hclog.Logger
	// Membership, Inspection, Snapshots and Backups are what operators may do; what
	// is nil is answered as not configured.
	Membership Membership
	Inspection Inspection
	Snapshots  Snapshots
	Backups    Backups
	Audit      Audit
	// Clusters are asked what a dry run would do in them; nil: they are not asked.
	Clusters Clusters
	// Agents tells where managers are that connect themselves; nil: nobody knows.
	Agents Agents
	// Settings are how the node was started, for operators. Secrets are taken out.
	Settings map[string]string
	// DataDir is where doctor measures the disk; empty: it does not.
	DataDir string
	// Logs is what /api/v1/operator/logs tells; nil: nothing is.
	Logs *LogBuffer
	// Version is what /health reports.
	Version string
	// Now is the clock of answers. Default time.Now.
	Now func() time.Time
	// NewRequestID makes ids for requests that bring none. Default: UUIDs.
	NewRequestID func() string

	// MaxBodyBytes bounds a request body. Default 50 MiB.
	MaxBodyBytes int64
	// MaxDocumentBytes bounds a JSON document without its white space, because
	// larger ones do not fit into one command of the log. Default 512 KiB.
	MaxDocumentBytes int
	// MaxBufferedBytes bounds the bodies over 64 KiB that are in memory at the
	// same time, all requests together. Default 256 MiB.
	MaxBufferedBytes int64
	// MaxHeaderBytes bounds request line and headers. Default 64 KiB.
	MaxHeaderBytes int
	// MaxConnections bounds the open connections; more wait in the kernel's
	// queue. Default 4096.
	MaxConnections int

	// MaxWatchers bounds the streams of changes. Default 1024.
	MaxWatchers int
	// BookmarkInterval is how often such a stream tells how far it is when nothing
	// that it is about changes. Default 5 s.
	BookmarkInterval time.Duration

	// RequestTimeout bounds every request, except for its ?wait. Default 30 s.
	RequestTimeout time.Duration
	// MaxWait bounds ?wait. Default 10 min.
	MaxWait time.Duration
	// HoldForLeader is how long a request waits for a leader. Default 5 s.
	HoldForLeader time.Duration
	// ReadHeaderTimeout and IdleTimeout are net/http's. Defaults 10 s and 2 min.
	ReadHeaderTimeout, IdleTimeout time.Duration
	// DrainTime is how long connected clients may take to go elsewhere before the
	// server stops. Default 1 s.
	DrainTime time.Duration
	// ShutdownTimeout is how long open requests may go on after Serve's context
	// ended. Default 10 s.
	ShutdownTimeout time.Duration

	// GatewayURL is where /api/gateway goes; nil: not configured.
	GatewayURL *url.URL
	// GatewayTimeout bounds one proxied request. Default 30 s.
	GatewayTimeout time.Duration
	// StaticDir is served outside of the API's paths; empty: nothing is.
	StaticDir string

	// moreRoutes lets tests put handlers of their own behind the routing.
	moreRoutes []route
}

// Validate reports what is missing or out of range.
func (o *Options) Validate() error {
	switch {
	case o.Registry == nil:
		return errors.New("api: Registry is required")
	case o.Cluster == nil:
		return errors.New("api: Cluster is required")
	case o.Metrics == nil:
		return errors.New("api: Metrics is required")
	case o.GatewayURL != nil && o.GatewayURL.Scheme != "http" && o.GatewayURL.Scheme != "https":
		return fmt.Errorf("api: the gateway URL must begin with http:// or https://, got %q", o.GatewayURL)
	case o.GatewayURL != nil && o.GatewayURL.Host == "":
		return fmt.Errorf("api: the gateway URL needs a host, got %q", o.GatewayURL)
	}
	for name, n := range map[string]int64{
		"MaxBodyBytes": o.MaxBodyBytes, "MaxDocumentBytes": int64(o.MaxDocumentBytes), "MaxBufferedBytes": o.MaxBufferedBytes,
		"MaxHeaderBytes": int64(o.MaxHeaderBytes), "MaxConnections": int64(o.MaxConnections),
		"MaxWatchers": int64(o.MaxWatchers), "BookmarkInterval": int64(o.BookmarkInterval),
		"RequestTimeout": int64(o.RequestTimeout), "MaxWait": int64(o.MaxWait), "HoldForLeader": int64(o.HoldForLeader),
		"ReadHeaderTimeout": int64(o.ReadHeaderTimeout), "IdleTimeout": int64(o.IdleTimeout),
		"ShutdownTimeout": int64(o.ShutdownTimeout), "DrainTime": int64(o.DrainTime), "GatewayTimeout": int64(o.GatewayTimeout),
	} {
		if n < 0 {
			return fmt.Errorf("api: %s must not be negative, got %d", name, n)
		}
	}
	return nil
}

func (o *Options) setDefaults() {
	orElse(&o.Version, "dev")
	orElse(&o.MaxBodyBytes, 50<<20)
	orElse(&o.MaxDocumentBytes, 512<<10)
	orElse(&o.MaxBufferedBytes, 256<<20)
	// One body of the allowed size must always fit.
	o.MaxBufferedBytes = max(o.MaxBufferedBytes, o.MaxBodyBytes)
	orElse(&o.MaxHeaderBytes, 64<<10)
	orElse(&o.MaxConnections, 4096)
	orElse(&o.MaxWatchers, 1024)
	orElse(&o.BookmarkInterval, 5*time.Second)
	orElse(&o.RequestTimeout, 30*time.Second)
	orElse(&o.MaxWait, 10*time.Minute)
	orElse(&o.HoldForLeader, 5*time.Second)
	orElse(&o.ReadHeaderTimeout, 10*time.Second)
	orElse(&o.IdleTimeout, 2*time.Minute)
	orElse(&o.ShutdownTimeout, 10*time.Second)
	orElse(&o.DrainTime, time.Second)
	orElse(&o.GatewayTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewRequestID == nil {
		o.NewRequestID = uuid.NewString
	}
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
