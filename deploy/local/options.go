package local

import (
	"errors"
	"fmt"
	"io"
	"regexp"
)

// DefaultNodes is one node in each of three zones.
const DefaultNodes = 3

// Options describe one cluster. Only Name is needed.
type Options struct {
	// Name of the cluster. It is also the context in the kubeconfig, the region label and the prefix of the node names.
	Name string
	// Nodes is the number of simulated nodes, spread over the zones NAME-a, NAME-b and NAME-c. 0 means DefaultNodes.
	Nodes int
	// Dir keeps the state, keys and logs, and must not exist or be empty. Empty means a directory of its own below the
	// system's temporary directory. Stop removes it.
	Dir string
	// FSync makes etcd wait for the disk. Off, a crash of the machine (not of a process) may lose data, and starts are faster.
	FSync bool
	// Stages are further files for kwok (Stage and the like, YAML). A custom resource that one of them watches must be among CRDs.
	Stages []string
	// CRDs are files or directories of CustomResourceDefinitions, which are installed before the nodes come up.
	CRDs []string
	// Binaries are the programs. nil means to call Build with Progress.
	Binaries *Binaries
	// Progress is told about a build that Start has to do first. nil means silence.
	Progress io.Writer
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Validate checks what Start cannot work with.
func (o *Options) Validate() error {
	var problems []error
	if !clusterName.MatchString(o.Name) {
		problems = append(problems, fmt.Errorf("name %q: want at most 40 of a-z, 0-9 and -, not starting or ending with -", o.Name))
	}
	if o.Nodes < 0 {
		problems = append(problems, fmt.Errorf("nodes %d: want 0 or more", o.Nodes))
	}
	return errors.Join(problems...)
}

func (o *Options) nodes() int {
	if o.Nodes == 0 {
		return DefaultNodes
	}
	return o.Nodes
}
