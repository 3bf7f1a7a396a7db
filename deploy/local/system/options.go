package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The programs that are run, by the name of their file in Options.Bin.
const (
	programPM  = "pmd"
	programCRM = "crm"
	programCLI = "pmctl"
)

// BinEnv names the directory of the built programs for tests, which otherwise build them.
const BinEnv = "OAAS_BIN"

// Defaults of Options.
const (
	DefaultNodes     = 3
	DefaultNamespace = "oaas"
)

// Cluster is a Kubernetes cluster that gets a crm. The ClassRuntime CRD must be installed in it.
type Cluster struct {
	// Name of the cluster, which is also the name of the environment.
	Name string
	// Region and Zone are announced to the Package Manager.
	Region, Zone string
	// Kubeconfig is the path of the access that the crm uses.
	Kubeconfig string
	// Edge clusters cannot be dialled: their crm connects to the nodes itself, and takes no part in the gossip.
	Edge bool
}

// Options describe a system.
type Options struct {
	// Bin is the directory of pmd, crm and pmctl.
	Bin string
	// Dir keeps data and logs, and must not hold those of an earlier system, whose ports were others. Empty means a temporary
	// directory, which Stop removes.
	Dir string
	// Nodes is the number of Package Manager nodes: odd, 0 means DefaultNodes.
	Nodes int
	// Clusters get a crm each. There may be none.
	Clusters []Cluster
	// Namespace in which every crm works. It must exist. Empty means DefaultNamespace.
	Namespace string
	// PMArgs and CRMArgs are added to the command line of every pmd or crm.
	PMArgs, CRMArgs []string
	// TLS makes pmd and crm prove to each other who they are, with certificates that are made for this system.
	TLS bool
	// PMEnv is added to the environment of every pmd, as KEY=VALUE: clusters that are configured and not discovered.
	PMEnv []string
}

// Validate checks what Start cannot work with.
func (o *Options) Validate() error {
	var problems []error
	needed := []string{programPM}
	if len(o.Clusters) > 0 {
		needed = append(needed, programCRM)
	}
	for _, program := range needed {
		if info, err := os.Stat(filepath.Join(o.Bin, program)); err != nil || info.IsDir() {
			problems = append(problems, fmt.Errorf("program %s is not in %q", program, o.Bin))
		}
	}
	if o.Nodes < 0 || (o.Nodes != 0 && o.Nodes%2 == 0) {
		problems = append(problems, fmt.Errorf("nodes %d: want an odd number", o.Nodes))
	}
	seen := map[string]bool{}
	for _, c := range o.Clusters {
		if c.Name == "" || c.Kubeconfig == "" {
			problems = append(problems, fmt.Errorf("cluster %+v: name and kubeconfig are needed", c))
		}
		if seen[c.Name] {
			problems = append(problems, fmt.Errorf("cluster %s is named twice", c.Name))
		}
		seen[c.Name] = true
	}
	return errors.Join(problems...)
}

func (o *Options) withDefaults() Options {
	filled := *o
	if filled.Nodes == 0 {
		filled.Nodes = DefaultNodes
	}
	if filled.Namespace == "" {
		filled.Namespace = DefaultNamespace
	}
	return filled
}
