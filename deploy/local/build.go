package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The programs of the nested module, by the name of their file in Binaries.Dir.
const (
	programEtcd        = "etcd"
	programAPIServer   = "kube-apiserver"
	programControllers = "kube-controller-manager"
	programScheduler   = "kube-scheduler"
	programKubectl     = "kubectl"
	programKwok        = "kwok"
)

// moduleFolder is the nested module, relative to this package.
const moduleFolder = "kubernetes"

// BuildOptions says where the programs go. The zero value is right for everyone but tests of this package.
type BuildOptions struct {
	// CacheDir holds one folder of programs per version. Empty means $OAAS_CACHE, or oaas in the user's cache directory.
	CacheDir string
	// ModuleDir is the nested module. Empty means the one of this source tree, see moduleDir.
	ModuleDir string
	// Progress is told what happens while something has to be built. nil means silence.
	Progress io.Writer
}

// Binaries are the built programs of one version.
type Binaries struct {
	// Dir holds the programs. It also serves as the asset directory of controller-runtime's envtest.
	Dir string
	// Version is that of Kubernetes, for example v1.37.2.
	Version string
}

// Kubectl is the path of kubectl.
func (b *Binaries) Kubectl() string { return b.path(programKubectl) }

func (b *Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// ErrNoSource says that the nested module was not found.
var ErrNoSource = errors.New("the source of the local Kubernetes was not found: run inside a checkout of the repository")

// Build returns the programs and compiles them first if this version was never built on this machine. That takes about eight
// minutes on two cores and 5 GB of disk for Go's caches; afterwards it returns in milliseconds. Any number of
// processes may call it at the same time: one builds, the others wait for it.
func Build(ctx context.Context, options BuildOptions) (*Binaries, error) {
	module, err := moduleDir(options.ModuleDir, moduleFolder)
	if err != nil {
		return nil, err
	}
	version, err := requiredVersion(module, "k8s.io/kubernetes")
	if err != nil {
		return nil, err
	}
	dir, err := nested{
		folder: moduleFolder, dir: module, version: version, flags: buildFlags(version), target: "tool",
		title: "Kubernetes " + version + ", etcd and kwok", takes: "about eight minutes",
		// The package path of etcd's program ends in server/v3, and the Go command takes the program's name from there.
		finish: func(_ context.Context, partial string) error {
			return os.Rename(filepath.Join(partial, "server"), filepath.Join(partial, programEtcd))
		},
	}.build(ctx, options)
	if err != nil {
		return nil, err
	}
	return &Binaries{Dir: dir, Version: version}, nil
}

// buildFlags sets the version as Kubernetes' own build does; without it the server says that it is v0.0.0.
func buildFlags(version string) []string {
	const pkg = "k8s.io/component-base/version"
	number := strings.Split(strings.TrimPrefix(version, "v"), ".")
	ldflags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		pkg, version, number[0], number[1])
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", ldflags}
}
