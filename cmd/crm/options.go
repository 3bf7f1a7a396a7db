package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"oaas.io/control-plane/cmd/internal/daemon"
	"oaas.io/control-plane/cmd/internal/tlsfiles"
	"oaas.io/control-plane/crm"
	"oaas.io/control-plane/discovery"
)

// options are the settings of a manager. Each is a flag, a variable and a key of
// the file.
type options struct {
	GRPCAddr         string
	MetricsAddr      string
	AdvertiseAddress string

	// TLS are the files of the gRPC port, and TLSClientNames whom it lets in.
	TLS            tlsfiles.Sides
	TLSClientNames []string

	Name         string
	Namespace    string
	Region       string
	Zone         string
	Labels       map[string]string
	Availability float64

	Kubeconfig      string
	Context         string
	InstallCRD      bool
	CreateNamespace bool
	LeaderElect     bool
	Concurrency     int
	Deadline        time.Duration

	Profile        string
	Datacenter     bool
	Edge           bool
	ODGM           bool
	ODGMImage      string
	ODGMPullPolicy string
	ODGMHealthPath string
	HPA            bool
	Knative        bool
	Pods           podFlags
	OTEL           bool
	OTELEndpoint   string

	// ControlPlane is for a cluster that cannot be dialled.
	ControlPlane controlPlaneOptions

	Join            []string
	GossipAddr      string
	GossipAdvertise string
	GossipKey       string

	Log daemon.Logging

	// These exist for the variables of the older system only.
	HTTPPort         uint16
	HardwareClass    string
	MockAvailability string
}

func (o *options) bind(fs *pflag.FlagSet) {
	fs.StringVar(&o.GRPCAddr, "grpc-addr", ":8088", "address of gRPC and of GET /health, /healthz, /readyz on the same port")
	fs.StringVar(&o.MetricsAddr, "metrics-addr", "", "address of GET /metrics, /healthz, /readyz; empty turns it off")
	fs.StringVar(&o.AdvertiseAddress, "advertise-address", "", "host:port at which the package manager reaches --grpc-addr (default: its port on the host that gossip is heard from)")

	fs.StringVar(&o.TLS.Cert, "tls-cert", "", "PEM file with the certificate of --grpc-addr, and those between it and its authority; the port then speaks TLS only. Read again when it changes")
	fs.StringVar(&o.TLS.Key, "tls-key", "", "PEM file with the key of --tls-cert")
	fs.StringVar(&o.TLS.CA, "tls-client-ca", "", "PEM file with the authorities of clients: only clients with a certificate of theirs are let in")
	fs.StringSliceVar(&o.TLSClientNames, "tls-client-names", nil, "DNS names, URIs (spiffe://...) or common names of the clients that are let in; none lets in all of --tls-client-ca")

	fs.StringVar(&o.Name, "name", "", "name of the cluster, which is the environment's name (default: the namespace)")
	fs.StringVar(&o.Namespace, "namespace", "default", "the one namespace that is watched and written")
	fs.StringVar(&o.Region, "region", "", "region of the cluster")
	fs.StringVar(&o.Zone, "zone", "", "zone of the cluster")
	fs.StringToStringVar(&o.Labels, "labels", nil, "labels of the cluster, key=value, for the planner")
	fs.Float64Var(&o.Availability, "availability", -1, "declared availability of the cluster within 0..1; negative declares none")

	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, ~/.kube/config, else the pod's service account)")
	fs.StringVar(&o.Context, "context", "", "context of the kubeconfig (default: its current one)")
	fs.BoolVar(&o.InstallCRD, "install-crd", false, "install or upgrade the custom resource definition at the start")
	fs.BoolVar(&o.CreateNamespace, "create-namespace", false, "create the namespace when it is missing")
	fs.BoolVar(&o.LeaderElect, "leader-elect", false, "share the cluster with further replicas: one reconciles, all answer gRPC")
	fs.IntVar(&o.Concurrency, "concurrency", crm.DefaultConcurrency, "class runtimes that are reconciled at a time")
	fs.DurationVar(&o.Deadline, "progress-deadline", 0, "time after which a class that is not ready is degraded (default 10m)")

	fs.StringVar(&o.Profile, "profile", "dev", "dev, edge, k8s_deployment, full, prod or production: what templates are chosen by")
	fs.BoolVar(&o.Datacenter, "datacenter", false, "the cluster stands in a datacenter; for the choice of templates")
	fs.BoolVar(&o.Edge, "edge", false, "the cluster stands at the edge; for the choice of templates")
	fs.BoolVar(&o.ODGM, "odgm", true, "run the object store beside the classes that want it")
	fs.StringVar(&o.ODGMImage, "odgm-image", "", "image of the object store (default: the template's)")
	fs.StringVar(&o.ODGMPullPolicy, "odgm-pull-policy", "", "Always, IfNotPresent or Never (default: the cluster's)")
	fs.StringVar(&o.ODGMHealthPath, "odgm-health-path", "", "path on the object store's HTTP port that answers when it is ready (default: it is ready when the port is open)")
	fs.BoolVar(&o.HPA, "hpa", false, "autoscale functions whose min_scale and max_scale leave room (default: true for the profiles edge, full, prod and production)")
	fs.BoolVar(&o.Knative, "knative", true, "run classes with Knative Serving where the cluster has it and their template is knative, by name or by score")
	o.Pods.bind(fs)
	fs.BoolVar(&o.OTEL, "otel", false, "containers export telemetry when their class does not say")
	fs.StringVar(&o.OTELEndpoint, "otel-endpoint", "http://otel-collector:4317", "OTLP endpoint of the containers")

	o.ControlPlane.bind(fs)

	fs.StringSliceVar(&o.Join, "join", nil, "gossip addresses of package managers, host:port or host; empty announces nothing")
	fs.StringVar(&o.GossipAddr, "gossip-addr", ":7946", "address of gossip (TCP and UDP)")
	fs.StringVar(&o.GossipAdvertise, "gossip-advertise", "", "host or host:port at which gossip is reached (default: the one it binds to, or a private one)")
	fs.StringVar(&o.GossipKey, "gossip-key", "", "base64 of 16, 24 or 32 bytes that encrypt gossip, the same everywhere; further keys after commas are only accepted, for rotation")

	o.Log.Bind(fs)

	fs.Uint16Var(&o.HTTPPort, "http-port", 0, "port of --grpc-addr on all addresses; --grpc-addr wins")
	fs.StringVar(&o.HardwareClass, "hardware-class", "", "older form of --labels hardware-class=...")
	fs.StringVar(&o.MockAvailability, "mock-availability", "", "older form of --availability: clamped to 0..1, ignored when it is no number")
	for _, name := range []string{"http-port", "hardware-class", "mock-availability"} {
		fs.Lookup(name).Hidden = true
	}
}

// resolve gives the older settings their place, where the newer ones do not say
// otherwise, and derives what is not set.
func (o *options) resolve(fs *pflag.FlagSet) {
	if o.HTTPPort != 0 && !fs.Changed("grpc-addr") {
		o.GRPCAddr = net.JoinHostPort("", strconv.Itoa(int(o.HTTPPort)))
	}
	o.Log.Resolve(fs)
	if value, err := strconv.ParseFloat(o.MockAvailability, 64); err == nil && !math.IsNaN(value) && !fs.Changed("availability") {
		o.Availability = min(max(value, 0), 1)
	}
	if o.HardwareClass != "" {
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		if _, set := o.Labels["hardware-class"]; !set {
			o.Labels["hardware-class"] = o.HardwareClass
		}
	}
	if o.Name == "" {
		o.Name = o.Namespace
	}
	if !fs.Changed("hpa") {
		switch strings.ToLower(o.Profile) {
		case "edge", "full", "prod", "production":
			o.HPA = true
		}
	}
}

// profiles are those that templates are chosen by. The older system takes any other for dev.
var profiles = []string{"dev", "edge", "k8s_deployment", "full", "prod", "production"}

// Validate reports all settings that cannot be used.
func (o *options) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	addresses := []struct {
		flag, address string
		optional      bool
	}{
		{"grpc-addr", o.GRPCAddr, false}, {"metrics-addr", o.MetricsAddr, true},
		{"advertise-address", o.AdvertiseAddress, true}, {"gossip-addr", o.GossipAddr, len(o.Join) == 0},
	}
	for _, a := range addresses {
		if a.optional && a.address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			bad(a.flag, "%q is not host:port", a.address)
		}
	}
	if o.Availability > 1 || math.IsNaN(o.Availability) {
		bad("availability", "%v is not within 0..1", o.Availability)
	}
	if _, err := o.Pods.options(); err != nil {
		errs = append(errs, err)
	}
	for flag, name := range map[string]string{"name": o.Name, "namespace": o.Namespace} {
		for _, problem := range validation.IsDNS1123Label(name) {
			bad(flag, "%q: %s", name, problem)
		}
	}
	for _, address := range o.Join {
		if _, _, err := net.SplitHostPort(address); err != nil && strings.Contains(address, ":") && net.ParseIP(address) == nil {
			bad("join", "%q is neither host:port nor a host", address)
		}
	}
	if o.Concurrency < 1 || o.Concurrency > 256 {
		bad("concurrency", "%d is not within 1..256", o.Concurrency)
	}
	if o.Deadline < 0 {
		bad("progress-deadline", "%v is negative", o.Deadline)
	}
	switch o.ODGMPullPolicy {
	case "", "Always", "IfNotPresent", "Never":
	default:
		bad("odgm-pull-policy", "%q: want Always, IfNotPresent or Never", o.ODGMPullPolicy)
	}
	if strings.ContainsFunc(o.ODGMImage, unicode.IsSpace) {
		bad("odgm-image", "%q has white space in it", o.ODGMImage)
	}
	if strings.ContainsFunc(o.OTELEndpoint, unicode.IsSpace) {
		bad("otel-endpoint", "%q has white space in it", o.OTELEndpoint)
	}
	if o.ODGMHealthPath != "" && !strings.HasPrefix(o.ODGMHealthPath, "/") {
		bad("odgm-health-path", "%q does not begin with /", o.ODGMHealthPath)
	}
	errs = append(errs, o.validateTLS(), o.ControlPlane.Validate())
	if _, err := discovery.ParseKeys(o.GossipKey); err != nil {
		bad("gossip-key", "%v", err)
	}
	return errors.Join(append(errs, o.Log.Validate())...)
}

// validateTLS refuses half a configuration: it would be less safe than it looks.
func (o *options) validateTLS() error {
	switch {
	case o.TLS.Cert == "" && o.TLS.Key != "":
		return errors.New("--tls-key: needs --tls-cert")
	case o.TLS.Cert != "" && o.TLS.Key == "":
		return errors.New("--tls-cert: needs --tls-key")
	case o.TLS.CA != "" && o.TLS.Cert == "":
		return errors.New("--tls-client-ca: needs --tls-cert and --tls-key, since without TLS nobody shows a certificate")
	case len(o.TLSClientNames) > 0 && o.TLS.CA == "":
		return errors.New("--tls-client-names: needs --tls-client-ca, since without it nobody vouches for a name")
	case slices.Contains(o.TLSClientNames, ""):
		return errors.New("--tls-client-names: a name is empty")
	}
	return nil
}

// declared is the availability that was declared, nil for none.
func (o *options) declared() *float64 {
	if o.Availability < 0 {
		return nil
	}
	return &o.Availability
}
