package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"oaas.io/control-plane/deploy/local/filelock"
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

// workDir is the directory of one cluster.
type workDir struct {
	path string
	// owner is held as long as this process uses the directory; a directory whose lock is free belongs to a dead process.
	owner *filelock.Lock
}

const ownerFile = "owner.lock"

// newWorkDir makes the directory, and removes those in the temporary directory whose owners were killed.
func newWorkDir(given, name string) (*workDir, error) {
	path := given
	if path == "" {
		root := filepath.Join(os.TempDir(), "oaas-local-"+strconv.Itoa(os.Getuid()))
		if err := os.MkdirAll(root, 0o700); err != nil {
			return nil, fmt.Errorf("create working directory: %w", err)
		}
		sweep(root)
		var err error
		if path, err = os.MkdirTemp(root, name+"-"); err != nil {
			return nil, fmt.Errorf("create working directory: %w", err)
		}
	} else if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create working directory: %w", err)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("create working directory: %w", err)
	}
	owner, err := filelock.Try(filepath.Join(path, ownerFile))
	if err != nil {
		return nil, fmt.Errorf("take working directory %s: %w", path, err)
	}
	return &workDir{path: path, owner: owner}, nil
}

// sweep removes what killed processes left. Errors do not matter: the next Start tries again.
func sweep(root string) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		// Without the file, another process is just making the directory.
		if !exists(filepath.Join(dir, ownerFile)) {
			continue
		}
		if lock, err := filelock.Try(filepath.Join(dir, ownerFile)); err == nil {
			_ = os.RemoveAll(dir)
			lock.Release()
		}
	}
}

func (d *workDir) file(parts ...string) string {
	return filepath.Join(append([]string{d.path}, parts...)...)
}

// clear empties the directory for another attempt.
func (d *workDir) clear() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("clear working directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == ownerFile {
			continue
		}
		if err := os.RemoveAll(d.file(entry.Name())); err != nil {
			return fmt.Errorf("clear working directory: %w", err)
		}
	}
	return nil
}

// remove deletes the directory.
func (d *workDir) remove() error {
	err := os.RemoveAll(d.path)
	d.owner.Release()
	return err
}
