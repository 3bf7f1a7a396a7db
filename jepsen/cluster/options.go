package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"k8s.io/client-go/rest"

	"oaas.io/control-plane/deploy/local/agent"
	"oaas.io/control-plane/deploy/local/process"
)

// The programs that are run, by the name of their file in Options.Bin.
const (
	programPM  = "pmd"
	programCRM = "crm"
)

// DefaultNodes is how many nodes a cluster has that does not say.
const DefaultNodes = 3

// Options describe a cluster. Bin is the only field without a default.
type Options struct {
	// Nodes is the number of pmd: odd, 0 means DefaultNodes.
	Nodes int
	// CRMs is the number of crm processes, each with an environment of its own name (crm-1).
	CRMs int
	// Agents is the number of managers in this process, each with an environment of its own name (agent-1).
	Agents int
	// Bin is the directory of pmd and crm.
	Bin string
	// Binary has the programs of those processes that run another one than that in Bin, by name.
	Binary map[string]string
	// Dir keeps data and logs, and must not hold those of an earlier cluster. Empty means a temporary directory, which Stop
	// removes.
	Dir string
	// Seed decides what the network loses and by how much it varies.
	Seed uint64
	// PMArgs and CRMArgs are added to the command line of every pmd or crm.
	PMArgs, CRMArgs []string
	// Loopback has the cluster do without namespaces; also where they could be made.
	Loopback bool
	// Kubernetes are the clusters for the crm processes, which take turns: those that share one have namespaces of their own
	// in it. None, with CRMs, means one local Kubernetes for all, which takes a while to start.
	Kubernetes []Kubernetes
	// Agent, if set, may change what an agent is before it starts; i counts from 0. Name, Address and Listen are the cluster's.
	Agent func(i int, options *agent.Options)
	// Disk, if set, prepares the data directory of a node. It is given a directory that the node has for itself.
	Disk func(node, dir string) (Disk, error)
	// Wrap, if set, may change how a process is started, such as its environment. It is called at every start.
	Wrap func(name string, spec *process.Spec)
	// Logger is told what the cluster does. Default: nobody is.
	Logger hclog.Logger
}

// Kubernetes is a cluster that exists. Its API server listens where this process can reach it.
type Kubernetes struct {
	Config *rest.Config
}

// Disk is where a node has its data.
type Disk interface {
	// Path is the directory. It is the same for the life of the disk.
	Path() string
	// Close is called when the node will not run again.
	Close() error
}

// Validate checks what Start cannot work with.
func (o *Options) Validate() error {
	var problems []error
	needed := []string{programPM}
	if o.CRMs > 0 {
		needed = append(needed, programCRM)
	}
	for _, program := range needed {
		if info, err := os.Stat(filepath.Join(o.Bin, program)); err != nil || info.IsDir() {
			problems = append(problems, fmt.Errorf("program %s is not in %q", program, o.Bin))
		}
	}
	for name, path := range o.Binary {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			problems = append(problems, fmt.Errorf("program %q of %s is not there", path, name))
		}
	}
	if o.Nodes < 0 || (o.Nodes != 0 && o.Nodes%2 == 0) {
		problems = append(problems, fmt.Errorf("nodes %d: want an odd number", o.Nodes))
	}
	if o.CRMs < 0 || o.Agents < 0 {
		problems = append(problems, fmt.Errorf("%d crm and %d agents: want 0 or more", o.CRMs, o.Agents))
	}
	return errors.Join(problems...)
}

func (o *Options) withDefaults() Options {
	filled := *o
	if filled.Nodes == 0 {
		filled.Nodes = DefaultNodes
	}
	if filled.Logger == nil {
		filled.Logger = hclog.NewNullLogger()
	}
	return filled
}
