package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/deploy/local/filelock"
	"oaas.io/control-plane/deploy/local/process"
)

// nested is a module beside this package whose programs are built into the cache.
type nested struct {
	// folder is its name, here and in the cache.
	folder string
	// dir is where its source is.
	dir string
	// version begins the name of a build.
	version string
	// flags and target of `go build`.
	flags  []string
	target string
	// title and takes are for the message about a build.
	title, takes string
	// finish completes the folder of the programs; nil if nothing is left to do.
	finish func(ctx context.Context, partial string) error
}

// build returns the folder of the programs, which is complete if it exists.
func (n nested) build(ctx context.Context, options BuildOptions) (string, error) {
	cache, err := cacheDir(options.CacheDir)
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, n.folder)
	toolchain, err := output(goCommand(ctx, n.dir, "env", "GOVERSION"))
	if err != nil {
		return "", fmt.Errorf("ask the Go command for its version: %w", err)
	}
	stamp, err := n.stamp(strings.TrimSpace(toolchain))
	if err != nil {
		return "", err
	}
	final := filepath.Join(cache, stamp)
	if exists(final) {
		return final, nil
	}
	progress := options.Progress
	if progress == nil {
		progress = io.Discard
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("create cache: %w", err)
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(cache, stamp+".lock"), func() {
		_, _ = fmt.Fprintf(progress, "Another process is building the local %s; waiting for it.\n", n.title)
	})
	if err != nil {
		return "", fmt.Errorf("wait for the build lock: %w", err)
	}
	defer lock.Release()
	if exists(final) {
		return final, nil
	}
	return final, n.compile(ctx, final, progress)
}

// compile builds into a folder beside the final one and renames it, so that the final folder is complete when it exists.
func (n nested) compile(ctx context.Context, final string, progress io.Writer) error {
	began := time.Now()
	partial, err := os.MkdirTemp(filepath.Dir(final), ".building-")
	if err != nil {
		return fmt.Errorf("create build folder: %w", err)
	}
	defer os.RemoveAll(partial) //nolint:errcheck // a left-over folder only costs space
	_, _ = fmt.Fprintf(progress, "Building %s into %s. The first time takes %s on two cores.\n", n.title, final, n.takes)

	// Also downloads the modules that are missing, so the next step starts with a fair estimate.
	list := goCommand(ctx, n.dir, slices.Concat([]string{"list"}, n.flags, []string{"-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", n.target})...)
	stale, err := output(list)
	if err != nil {
		return fmt.Errorf("list the packages to build: %w", err)
	}
	meter := newMeter(progress, len(strings.Fields(stale)))
	build := goCommand(ctx, n.dir, slices.Concat([]string{"build", "-v"}, n.flags, []string{"-o", partial + string(filepath.Separator), n.target})...)
	var messages bytes.Buffer
	build.Stderr = io.MultiWriter(meter, &messages)
	err = process.Run(build)
	meter.finish()
	if err != nil {
		return fmt.Errorf("build the local %s: %w\n%s", n.title, err, lastLines(messages.String(), 15))
	}
	if n.finish != nil {
		if err := n.finish(ctx, partial); err != nil {
			return fmt.Errorf("finish the build of %s: %w", n.title, err)
		}
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	if err := os.Rename(partial, final); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	_, _ = fmt.Fprintf(progress, "Built in %s.\n", time.Since(began).Round(time.Second))
	return nil
}

// stamp names a build by everything that decides about its result: what the module requires, its own source, and the
// toolchain.
func (n nested) stamp(toolchain string) (string, error) {
	files, err := filepath.Glob(filepath.Join(n.dir, "*.go"))
	if err != nil {
		return "", fmt.Errorf("read the nested module: %w", err)
	}
	slices.Sort(files)
	sum := sha256.New()
	for _, path := range slices.Concat([]string{filepath.Join(n.dir, "go.mod"), filepath.Join(n.dir, "go.sum")}, files) {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read the nested module: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", filepath.Base(path), len(content))
		sum.Write(content)
	}
	_, _ = fmt.Fprintf(sum, "%s %s/%s\n", toolchain, runtime.GOOS, runtime.GOARCH)
	return n.version + "-" + hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// requiredVersion is the version of a module that a nested one requires.
func requiredVersion(dir, module string) (string, error) {
	path := filepath.Join(dir, "go.mod")
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the nested module: %w", err)
	}
	found := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (v\d+\.\d+\.\S+)`).FindSubmatch(content)
	if found == nil {
		return "", fmt.Errorf("%s requires no version of %s", path, module)
	}
	return string(found[1]), nil
}

// goCommand runs the Go command in the nested module, without settings of the user that would make it build something else.
func goCommand(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	return cmd
}

// cacheDir holds one folder for each nested module, with one for each of its builds.
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
	absolute, err := filepath.Abs(given)
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return absolute, nil
}

// moduleDir finds a nested module by its folder. A module cannot embed the files of a module below it, so they are looked for beside this
// file's place at compile time, and for programs that were built elsewhere or with -trimpath, from the working directory upwards.
func moduleDir(given, folder string) (string, error) {
	if given != "" {
		return given, nil
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Join(filepath.Dir(file), folder); exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
	}
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for {
		if dir := filepath.Join(at, "deploy", "local", folder); exists(filepath.Join(dir, "go.mod")) {
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
	module, err := moduleDir("", moduleFolder)
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
