package nested

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Module is one of the nested modules.
type Module struct {
	// Folder is its name below deploy/local, and that of its builds below the cache directory.
	Folder string
	// Title says what is built, and Patience how long that takes, in the messages to the user.
	Title, Patience string
	// Release is the module whose required version names the builds, for example k8s.io/kubernetes.
	Release string
	// Packages is what the Go command builds: "tool", or "." for a program of the module itself.
	Packages string
	// Programs is their number.
	Programs int
	// Flags are further arguments of the Go command; nil means none.
	Flags func(version string) []string
	// Rename says which programs get another name than that from the Go command.
	Rename map[string]string
	// Copies are files of required modules that are put beside the programs.
	Copies []Copy
}

// Copy names files of a required module.
type Copy struct {
	// Module is the path of the module.
	Module string
	// Pattern is that of the files in it, see filepath.Match.
	Pattern string
	// Into is the folder beside the programs.
	Into string
}

// Options says where the programs go. The zero value is right for everyone but tests of this package.
type Options struct {
	// CacheDir holds one folder of programs per version. Empty means $OAAS_CACHE, or oaas in the user's cache directory.
	CacheDir string
	// ModuleDir is the nested module. Empty means the one of this source tree.
	ModuleDir string
	// Progress is told what happens while something has to be built. nil means silence.
	Progress io.Writer
}

// Built are the programs of one version.
type Built struct {
	// Dir holds the programs.
	Dir string
	// Version is that of the module that names the builds.
	Version string
}

// File is the path of a program, or of a folder of copied files.
func (b *Built) File(name string) string { return filepath.Join(b.Dir, name) }

// ErrNoSource says that the nested module was not found.
var ErrNoSource = errors.New("the source of the local Kubernetes was not found: run inside a checkout of the repository")

// Root is the root of the source tree that the nested modules are in.
func Root() (string, error) {
	// A module cannot embed the files of a module below it, so they are looked for beside this file's place at compile time,
	// and for programs that were built elsewhere or with -trimpath, from the working directory upwards.
	if _, file, _, ok := runtime.Caller(0); ok {
		if root := filepath.Join(filepath.Dir(file), "..", "..", ".."); isRoot(root) {
			return root, nil
		}
	}
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for !isRoot(at) {
		up := filepath.Dir(at)
		if up == at {
			return "", ErrNoSource
		}
		at = up
	}
	return at, nil
}

func isRoot(dir string) bool {
	return exists(filepath.Join(dir, "deploy", "local", "kubernetes", "go.mod"))
}

// dir is the folder of the module.
func (m *Module) dir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "deploy", "local", m.Folder)
	if !exists(filepath.Join(dir, "go.mod")) {
		return "", ErrNoSource
	}
	return dir, nil
}

// cacheDir is the folder of all builds of the module.
func (m *Module) cacheDir(given string) (string, error) {
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
	absolute, err := filepath.Abs(filepath.Join(given, m.Folder))
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return absolute, nil
}

// stamp names a build by everything that decides about its result.
func (m *Module) stamp(dir, toolchain string) (stamp, version string, err error) {
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", "", fmt.Errorf("read the nested module: %w", err)
	}
	names := []string{"go.mod", "go.sum"}
	for _, source := range sources {
		if !strings.HasSuffix(source, "_test.go") {
			names = append(names, filepath.Base(source))
		}
	}
	slices.Sort(names[2:])
	sum := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", "", fmt.Errorf("read the nested module: %w", err)
		}
		if name == "go.mod" {
			if version = m.version(content); version == "" {
				return "", "", fmt.Errorf("%s requires no version of %s", filepath.Join(dir, name), m.Release)
			}
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
	}
	for _, c := range m.Copies {
		_, _ = fmt.Fprintf(sum, "%s %s %s\n", c.Module, c.Pattern, c.Into)
	}
	_, _ = fmt.Fprintf(sum, "%s %s/%s\n", toolchain, runtime.GOOS, runtime.GOARCH)
	return version + "-" + hex.EncodeToString(sum.Sum(nil))[:16], version, nil
}

// version is what go.mod requires of the module that names the builds.
func (m *Module) version(gomod []byte) string {
	found := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(m.Release) + ` (v\d+\.\d+\.\S+)`).FindSubmatch(gomod)
	if found == nil {
		return ""
	}
	return string(found[1])
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
