package local

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"oaas.io/control-plane/deploy/local/nested"
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

// module has the programs of a cluster.
var module = nested.Module{
	Folder:   "kubernetes",
	Title:    "Kubernetes, etcd and kwok",
	Patience: "about eight minutes on two cores",
	Release:  "k8s.io/kubernetes",
	Packages: "tool",
	Programs: 7,
	Flags:    buildFlags,
	// The package path of etcd's program ends in server/v3, and the Go command takes the program's name from there.
	Rename: map[string]string{"server": programEtcd},
}

// BuildOptions says where the programs go. The zero value is right for everyone but tests.
type BuildOptions = nested.Options

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

// Build returns the programs and compiles them first if this version was never built on this machine. That takes about eight
// minutes on two cores and 5 GB of disk for Go's caches; afterwards it returns in milliseconds. Any number of
// processes may call it at the same time: one builds, the others wait for it.
func Build(ctx context.Context, options BuildOptions) (*Binaries, error) {
	built, err := module.Build(ctx, options)
	if err != nil {
		return nil, err
	}
	return &Binaries{Dir: built.Dir, Version: built.Version}, nil
}

// SourceRoot is the root of the source tree that the nested module was found in.
func SourceRoot() (string, error) { return nested.Root() }

// buildFlags sets the version as Kubernetes' own build does; without it the server says that it is v0.0.0.
func buildFlags(version string) []string {
	const pkg = "k8s.io/component-base/version"
	number := strings.Split(strings.TrimPrefix(version, "v"), ".")
	ldflags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		pkg, version, number[0], number[1])
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", ldflags}
}
