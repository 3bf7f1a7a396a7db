package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/daemon"
	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/dispatch/liveness"
	"oaas.io/control-plane/raftstore"
	"oaas.io/control-plane/raftstore/backup"
)

// options are the settings of a node. Each is a flag, a variable and a key of
// the file.
type options struct {
	Dev           bool
	Name          string
	DataDir       string
	HTTPAddr      string
	GRPCAddr      string
	RaftAddr      string
	GossipAddr    string
	AdvertiseHost string
	Peers         []string
	Profile       string

	// Watermark is how much of the data directory's file system must stay free, and
	// Compaction when the log's file is made smaller.
	Watermark  raftstore.Watermark
	Compaction raftstore.Compaction

	GossipJoin []string
	GossipKey  string
	Region     string
	Zone       string

	// CRM is TLS towards the managers of clusters, Agents the port for those that connect
	// themselves.
	CRM    crmOptions
	Agents agentOptions

	// Health has the deadlines by which clusters are suspected, and given up.
	Health liveness.Limits

	MaxBodyBytes   int64
	RequestTimeout time.Duration
	StaticDir      string
	GatewayURL     string
	GatewayTimeout time.Duration
	DeleteCascade  bool
	StrayGrace     time.Duration

	BackupTarget          string
	BackupInterval        time.Duration
	BackupKeep            int
	BackupKeepDays        int
	BackupCredentialsFile string

	Log daemon.Logging

	// settings are the values of all flags, for operators to look at.
	settings map[string]string

	// ServerPort only exists for the variable of the older system.
	ServerPort uint16
}

func (o *options) bind(fs *pflag.FlagSet) {
	fs.BoolVar(&o.Dev, "dev", false, "single node in memory on loopback, for a first look; nothing survives its end")
	fs.StringVar(&o.Name, "name", "", "name of the node in logs and gossip (default: the host's name)")
	fs.StringVar(&o.DataDir, "data-dir", "", "directory of the Raft log, the snapshots and the node's identity; required without --dev")
	fs.StringVar(&o.HTTPAddr, "http-addr", ":8080", "address of the REST API")
	fs.StringVar(&o.GRPCAddr, "grpc-addr", ":7402", "address of the internal gRPC port that the nodes use among themselves")
	fs.StringVar(&o.RaftAddr, "raft-addr", ":7401", "address of the Raft port")
	fs.StringVar(&o.GossipAddr, "gossip-addr", ":7946", "address on which clusters announce themselves (TCP and UDP); empty turns gossip off")
	fs.StringVar(&o.AdvertiseHost, "advertise-host", "", "host name or address at which the other nodes reach this one; a stable DNS name is best (default: the host of --raft-addr, else the host's name)")
	fs.StringSliceVar(&o.Peers, "peers", nil, "internal gRPC addresses of all nodes that found the cluster together, this one included")
	fs.StringVar(&o.Profile, "profile", "standard", "Raft timing: standard (1 s heartbeat timeout), fast (500 ms, for low-latency networks) or slow-disk (3 s)")
	fs.Uint64Var(&o.Watermark.Percent, "disk-low-percent", 5, "percentage of the data directory's file system that must stay free; the cluster is read-only while a node has less")
	fs.Uint64Var(&o.Watermark.MinBytes, "disk-low-min-bytes", 256<<20, "bytes that must stay free however small the file system is, up to a half of it")
	fs.Uint64Var(&o.Watermark.MaxBytes, "disk-low-max-bytes", 4<<30, "free bytes that are enough however large the file system is")
	fs.Int64Var(&o.Compaction.MinBytes, "log-compact-min-bytes", 64<<20, "size from which the log's file is compacted at the start; negative: never")
	fs.Int64Var(&o.Compaction.FreePercent, "log-compact-free-percent", 50, "percentage of the log's file that must be unused for that")

	fs.StringSliceVar(&o.GossipJoin, "gossip-join", nil, "gossip addresses of the other nodes (default: the hosts of --peers with the port of --gossip-addr)")
	fs.StringVar(&o.GossipKey, "gossip-key", "", "base64 of 16, 24 or 32 bytes that encrypt gossip, the same everywhere; further keys after commas are only accepted, for rotation")
	fs.StringVar(&o.Region, "region", "", "region of this node")
	fs.StringVar(&o.Zone, "zone", "", "zone of this node")

	o.CRM.bind(fs)
	o.Agents.bind(fs)
	bindHealth(&o.Health, fs)

	fs.Int64Var(&o.MaxBodyBytes, "max-body-bytes", 52428800, "largest request body that is read")
	fs.DurationVar(&o.RequestTimeout, "request-timeout", 30*time.Second, "time that a request may take; ?wait= extends it")
	fs.StringVar(&o.StaticDir, "static-dir", "", "directory of the web interface's files; empty serves none")
	fs.StringVar(&o.GatewayURL, "gateway-url", "", "base URL of the data plane's gateway behind /api/gateway; empty turns the proxy off")
	o.GatewayTimeout = 30 * time.Second
	fs.Var((*seconds)(&o.GatewayTimeout), "gateway-timeout", "time that a proxied request may take; a plain number means seconds")
	fs.BoolVar(&o.DeleteCascade, "delete-cascade", false, "deleting a package deletes its deployments first")
	fs.DurationVar(&o.StrayGrace, "stray-grace", time.Hour, "time after which a runtime in a cluster that nothing wants any more is removed")

	fs.StringVar(&o.BackupTarget, "backup-target", "", "where the leader keeps backups: a directory, or s3://bucket/prefix?endpoint=https://host:port; empty makes none")
	fs.DurationVar(&o.BackupInterval, "backup-interval", time.Hour, "time between backups; one is left out when nothing has changed")
	fs.IntVar(&o.BackupKeep, "backup-keep", 24, "how many of the newest backups stay")
	fs.IntVar(&o.BackupKeepDays, "backup-keep-days", 14, "for how many days the newest backup of each day stays")
	fs.StringVar(&o.BackupCredentialsFile, "backup-credentials-file", "", "file with the credentials of the bucket, in the form of Amazon's shared credentials (default: the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)")

	o.Log.Bind(fs)
	fs.Uint16Var(&o.ServerPort, "server-port", 0, "port of the REST API on all addresses; --http-addr wins")
	fs.Lookup("server-port").Hidden = true
}

// resolve gives the older settings their place, where the newer ones do not say
// otherwise, and moves the listeners of a development node to loopback.
func (o *options) resolve(fs *pflag.FlagSet) {
	if o.ServerPort != 0 && !fs.Changed("http-addr") {
		o.HTTPAddr = net.JoinHostPort("", strconv.Itoa(int(o.ServerPort)))
	}
	o.Log.Resolve(fs)
	o.settings = map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) { o.settings[f.Name] = f.Value.String() })
	if !o.Dev {
		return
	}
	for flag, addr := range map[string]*string{
		"http-addr": &o.HTTPAddr, "grpc-addr": &o.GRPCAddr, "raft-addr": &o.RaftAddr, "gossip-addr": &o.GossipAddr, "agent-addr": &o.Agents.Addr,
	} {
		if host, port, err := net.SplitHostPort(*addr); err == nil && host == "" && !fs.Changed(flag) {
			*addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	if o.AdvertiseHost == "" {
		o.AdvertiseHost = "127.0.0.1"
	}
}

// Validate reports all settings that cannot be used.
func (o *options) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if o.Dev && o.DataDir != "" {
		bad("dev", "keeps nothing, so it cannot be combined with --data-dir")
	}
	if o.Dev && len(o.Peers) > 0 {
		bad("dev", "is a single node, so it cannot be combined with --peers")
	}
	if !o.Dev && o.DataDir == "" {
		bad("data-dir", "is required (or use --dev for a first look)")
	}
	for flag, addr := range map[string]string{"http-addr": o.HTTPAddr, "grpc-addr": o.GRPCAddr, "raft-addr": o.RaftAddr, "gossip-addr": o.GossipAddr} {
		if addr == "" && flag == "gossip-addr" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad(flag, "%q is not host:port", addr)
		}
	}
	for flag, addrs := range map[string][]string{"peers": o.Peers, "gossip-join": o.GossipJoin} {
		for _, addr := range addrs {
			if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
				bad(flag, "%q is not host:port", addr)
			}
		}
	}
	if n := len(o.Peers); n > 1 && n%2 == 0 {
		bad("peers", "%d nodes tolerate no more failures than %d would; name an odd number", n, n-1)
	}
	switch raftstore.Profile(o.Profile) {
	case raftstore.Standard, raftstore.Fast, raftstore.SlowDisk:
	default:
		bad("profile", "%q is none of standard, fast, slow-disk", o.Profile)
	}
	if err := o.Watermark.Validate(); err != nil {
		bad("disk-low-percent", "%v", err)
	}
	if err := o.Compaction.Validate(); err != nil {
		bad("log-compact-free-percent", "%v", err)
	}
	if _, err := discovery.ParseKeys(o.GossipKey); err != nil {
		bad("gossip-key", "%v", err)
	}
	if o.BackupTarget != "" {
		if err := (backup.Retention{Last: o.BackupKeep, Days: o.BackupKeepDays}).Validate(); err != nil {
			bad("backup-keep", "%v", err)
		}
		if o.BackupInterval < time.Second {
			bad("backup-interval", "%v is below 1s", o.BackupInterval)
		}
	}
	if o.MaxBodyBytes < 1024 {
		bad("max-body-bytes", "%d is below 1024", o.MaxBodyBytes)
	}
	if o.RequestTimeout <= 0 {
		bad("request-timeout", "must be positive")
	}
	if o.StrayGrace <= 0 {
		bad("stray-grace", "must be positive")
	}
	return errors.Join(append(errs, o.CRM.Validate(), o.Agents.Validate(o.CRM.Required), validateHealth(&o.Health), o.Log.Validate())...)
}

// advertise gives the address at which others reach a listener.
func (o *options) advertise(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	switch {
	case o.AdvertiseHost != "":
		host = o.AdvertiseHost
	case host == "" || net.ParseIP(host).IsUnspecified():
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}

// nodeName names the node in logs and gossip.
func (o *options) nodeName() string {
	if o.Name != "" {
		return o.Name
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "pmd"
}

// gossipPeers gives the addresses to join, derived from the peers unless set.
func (o *options) gossipPeers() []string {
	if len(o.GossipJoin) > 0 {
		return o.GossipJoin
	}
	_, port, _ := net.SplitHostPort(o.GossipAddr)
	var out []string
	for _, p := range o.Peers {
		host, _, _ := net.SplitHostPort(p)
		out = append(out, net.JoinHostPort(host, port))
	}
	return out
}

// seconds is a duration whose plain numbers are seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }

// Type names the value in the help text.
func (s *seconds) Type() string { return "duration" }

// Set parses a duration or a number of seconds.
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is neither a number of seconds nor a duration", text)
	}
	*s = seconds(d)
	return nil
}
