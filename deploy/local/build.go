package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"oaas.io/control-plane/deploy/local/filelock"
	"oaas.io/control-plane/deploy/local/process"
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
	module, err := moduleDir(options.ModuleDir)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir(options.CacheDir)
	if err != nil {
		return nil, err
	}
	toolchain, err := output(goCommand(ctx, module, "env", "GOVERSION"))
	if err != nil {
		return nil, fmt.Errorf("ask the Go command for its version: %w", err)
	}
	stamp, version, err := stampOf(module, strings.TrimSpace(toolchain))
	if err != nil {
		return nil, err
	}
	binaries := &Binaries{Dir: filepath.Join(cache, stamp), Version: version}
	if exists(binaries.Dir) {
		return binaries, nil
	}
	progress := options.Progress
	if progress == nil {
		progress = io.Discard
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("create cache: %w", err)
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(cache, stamp+".lock"), func() {
		_, _ = fmt.Fprintln(progress, "Another process is building the local Kubernetes; waiting for it.")
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the build lock: %w", err)
	}
	defer lock.Release()
	if exists(binaries.Dir) {
		return binaries, nil
	}
	return binaries, compile(ctx, module, binaries, progress)
}

// compile builds into a folder beside the final one and renames it, so that the final folder is complete when it exists.
func compile(ctx context.Context, module string, binaries *Binaries, progress io.Writer) error {
	began := time.Now()
	partial, err := os.MkdirTemp(filepath.Dir(binaries.Dir), ".building-")
	if err != nil {
		return fmt.Errorf("create build folder: %w", err)
	}
	defer os.RemoveAll(partial) //nolint:errcheck // a left-over folder only costs space
	_, _ = fmt.Fprintf(progress, "Building Kubernetes %s, etcd and kwok into %s. The first time takes about eight minutes on two cores.\n",
		binaries.Version, binaries.Dir)

	flags := buildFlags(binaries.Version)
	// Also downloads the modules that are missing, so the next step starts with a fair estimate.
	list := goCommand(ctx, module, append(append([]string{"list"}, flags...), "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", "tool")...)
	stale, err := output(list)
	if err != nil {
		return fmt.Errorf("list the packages to build: %w", err)
	}
	meter := newMeter(progress, len(strings.Fields(stale)))
	build := goCommand(ctx, module, append(append([]string{"build", "-v"}, flags...), "-o", partial+string(filepath.Separator), "tool")...)
	var messages bytes.Buffer
	build.Stderr = io.MultiWriter(meter, &messages)
	err = process.Run(build)
	meter.finish()
	if err != nil {
		return fmt.Errorf("build the local Kubernetes: %w\n%s", err, lastLines(messages.String(), 15))
	}
	// The package path of etcd's program ends in server/v3, and the Go command takes the program's name from there.
	if err := os.Rename(filepath.Join(partial, "server"), filepath.Join(partial, programEtcd)); err != nil {
		return fmt.Errorf("name the etcd program: %w", err)
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	if err := os.Rename(partial, binaries.Dir); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	_, _ = fmt.Fprintf(progress, "Built in %s.\n", time.Since(began).Round(time.Second))
	return nil
}

// buildFlags sets the version as Kubernetes' own build does; without it the server says that it is v0.0.0.
func buildFlags(version string) []string {
	const pkg = "k8s.io/component-base/version"
	number := strings.Split(strings.TrimPrefix(version, "v"), ".")
	ldflags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		pkg, version, number[0], number[1])
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", ldflags}
}

// goCommand runs the Go command in the nested module, without settings of the user that would make it build something else.
func goCommand(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	return cmd
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\d+\.\d+\.\S+)`)

// stampOf names a build by everything that decides about its result.
func stampOf(module, toolchain string) (stamp, version string, err error) {
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", "", fmt.Errorf("read the nested module: %w", err)
		}
		if name == "go.mod" {
			found := kubernetesVersion.FindSubmatch(content)
			if found == nil {
				return "", "", fmt.Errorf("%s requires no version of k8s.io/kubernetes", filepath.Join(module, name))
			}
			version = string(found[1])
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
	}
	_, _ = fmt.Fprintf(sum, "%s %s/%s\n", toolchain, runtime.GOOS, runtime.GOARCH)
	return version + "-" + hex.EncodeToString(sum.Sum(nil))[:16], version, nil
}

// cacheDir is the folder of all builds.
func cacheDir(given string) (string, error) {
	if given == "" {
		given = os.Getenv("OAAS_CACHE")
	}
	if given == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory (set OAAS_CACHE): %w", err)
		}
		given = filepath.Join(user, "oaas")
	}
	absolute, err := filepath.Abs(filepath.Join(given, "kubernetes"))
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return absolute, nil
}

// moduleDir finds the nested module. A module cannot embed the files of a module below it, so they are looked for beside this
// file's place at compile time, and for programs that were built elsewhere or with -trimpath, from the working directory upwards.
func moduleDir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Join(filepath.Dir(file), moduleFolder); exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
	}
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for {
		if dir := filepath.Join(at, "deploy", "local", moduleFolder); exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		up := filepath.Dir(at)
		if up == at {
			return "", ErrNoSource
		}
		at = up
	}
}

// SourceRoot is the root of the source tree that the nested module was found in.
func SourceRoot() (string, error) {
	module, err := moduleDir("")
	if err != nil {
		return "", err
	}
	return filepath.Join(module, "..", "..", ".."), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// output runs a command and returns what it wrote; the error has what it complained about.
func output(cmd *exec.Cmd) (string, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := process.Run(cmd); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, lastLines(problems.String(), 10))
	}
	return out.String(), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
