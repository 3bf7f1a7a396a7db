package nested

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"oaas.io/control-plane/deploy/local/filelock"
	"oaas.io/control-plane/deploy/local/process"
)

// Build returns the programs and compiles them first if this version was never built on this machine. Any number of
// processes may call it at the same time: one builds, the others wait for it.
func (m *Module) Build(ctx context.Context, options Options) (*Built, error) {
	dir, err := m.dir(options.ModuleDir)
	if err != nil {
		return nil, err
	}
	cache, err := m.cacheDir(options.CacheDir)
	if err != nil {
		return nil, err
	}
	toolchain, err := process.Output(goCommand(ctx, dir, "env", "GOVERSION"))
	if err != nil {
		return nil, fmt.Errorf("ask the Go command for its version: %w", err)
	}
	stamp, version, err := m.stamp(dir, strings.TrimSpace(toolchain))
	if err != nil {
		return nil, err
	}
	built := &Built{Dir: filepath.Join(cache, stamp), Version: version}
	if exists(built.Dir) {
		return built, nil
	}
	progress := options.Progress
	if progress == nil {
		progress = io.Discard
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("create cache: %w", err)
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(cache, stamp+".lock"), func() {
		_, _ = fmt.Fprintf(progress, "Another process is building %s; waiting for it.\n", m.Title)
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the build lock: %w", err)
	}
	defer lock.Release()
	if exists(built.Dir) {
		return built, nil
	}
	return built, m.compile(ctx, dir, built, progress)
}

// compile builds into a folder beside the final one and renames it, so that the final folder is complete when it exists.
func (m *Module) compile(ctx context.Context, dir string, built *Built, progress io.Writer) error {
	began := time.Now()
	partial, err := os.MkdirTemp(filepath.Dir(built.Dir), ".building-")
	if err != nil {
		return fmt.Errorf("create build folder: %w", err)
	}
	defer os.RemoveAll(partial) //nolint:errcheck // a left-over folder only costs space
	_, _ = fmt.Fprintf(progress, "Building %s %s into %s. The first time takes %s.\n", m.Title, built.Version, built.Dir, m.Patience)

	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}
	if m.Flags != nil {
		flags = m.Flags(built.Version)
	}
	// Also downloads the modules that are missing, so the next step starts with a fair estimate.
	list := goCommand(ctx, dir, append(append([]string{"list"}, flags...), "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", m.Packages)...)
	stale, err := process.Output(list)
	if err != nil {
		return fmt.Errorf("list the packages to build: %w", err)
	}
	meter := newMeter(progress, len(strings.Fields(stale)), m.Programs)
	build := goCommand(ctx, dir, append(append([]string{"build", "-v"}, flags...), "-o", partial+string(filepath.Separator), m.Packages)...)
	var messages bytes.Buffer
	build.Stderr = io.MultiWriter(meter, &messages)
	err = process.Run(build)
	meter.finish()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", m.Title, err, process.LastLines(messages.String(), 15))
	}
	if err := m.complete(ctx, dir, partial); err != nil {
		return err
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	if err := os.Rename(partial, built.Dir); err != nil {
		return fmt.Errorf("finish build: %w", err)
	}
	_, _ = fmt.Fprintf(progress, "Built in %s.\n", time.Since(began).Round(time.Second))
	return nil
}

// complete names the programs and adds the files of other modules.
func (m *Module) complete(ctx context.Context, dir, partial string) error {
	for from, to := range m.Rename {
		if err := os.Rename(filepath.Join(partial, from), filepath.Join(partial, to)); err != nil {
			return fmt.Errorf("name the program %s: %w", to, err)
		}
	}
	for _, c := range m.Copies {
		source, err := process.Output(goCommand(ctx, dir, "list", "-m", "-f", "{{.Dir}}", c.Module))
		if err != nil {
			return fmt.Errorf("find the module %s: %w", c.Module, err)
		}
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(source), filepath.FromSlash(c.Pattern)))
		if err != nil {
			return fmt.Errorf("find files of the module %s: %w", c.Module, err)
		}
		if len(files) == 0 {
			return fmt.Errorf("the module %s has no files %s", c.Module, c.Pattern)
		}
		if err := copyInto(filepath.Join(partial, c.Into), files); err != nil {
			return fmt.Errorf("copy files of the module %s: %w", c.Module, err)
		}
	}
	return nil
}

// copyInto copies the files rather than linking them, because the user may clean the cache of the modules.
func copyInto(dir string, files []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.Base(file))
		if exists(target) {
			return fmt.Errorf("two files are named %s", filepath.Base(file))
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goCommand runs the Go command in a nested module, without settings of the user that would make it build something else.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	return cmd
}
