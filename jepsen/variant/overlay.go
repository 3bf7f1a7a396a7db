package variant

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed guards/*.diff
var guards embed.FS

const (
	// banner is the diff that every variant has besides its own.
	banner = "banner"
	// suffixFile is the file by which a variant changes the version that it reports. The
	// tree has none of that name.
	suffixFile = "cmd/internal/version/without.go"
)

// overlay is the compiler's file of replaced files.
type overlay struct {
	Replace map[string]string
}

// Overlay writes what the compiler has to read instead of the module's files, for the
// variant of that name, into dir, and gives the file to be named as -overlay to go build,
// go vet or go test.
func Overlay(root, dir, name string) (string, error) {
	v, err := Find(name)
	if err != nil {
		return "", err
	}
	if root, err = filepath.Abs(root); err != nil {
		return "", fmt.Errorf("variant: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("variant: %w", err)
	}
	files, err := v.files(root)
	if err != nil {
		return "", err
	}
	out := overlay{Replace: map[string]string{}}
	for path, text := range files {
		to := filepath.Join(dir, "files", path)
		if err := writeFile(to, text); err != nil {
			return "", err
		}
		out.Replace[filepath.Join(root, path)] = to
	}
	raw, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		return "", fmt.Errorf("variant: %w", err)
	}
	path := filepath.Join(dir, "overlay.json")
	return path, writeFile(path, raw)
}

// files gives the texts of the files in which the variant differs from the tree at root.
func (v Variant) files(root string) (map[string][]byte, error) {
	out := map[string][]byte{suffixFile: v.suffix()}
	for _, name := range []string{banner, v.Name} {
		raw, err := guards.ReadFile("guards/" + name + ".diff")
		if err != nil {
			return nil, fmt.Errorf("variant: %w", err)
		}
		diffs, err := parseDiff(name+".diff", raw)
		if err != nil {
			return nil, err
		}
		for _, f := range diffs {
			text, seen := out[f.path]
			if !seen {
				if text, err = os.ReadFile(filepath.Join(root, f.path)); err != nil {
					return nil, fmt.Errorf("variant: %w", err)
				}
			}
			if out[f.path], err = f.apply(text); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return out, nil
}

// suffix is the file that changes the version, whoever has set that.
func (v Variant) suffix() []byte {
	return fmt.Appendf(nil, "package version\n\nfunc init() { Version = Version + %q }\n", v.Version(""))
}

func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("variant: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("variant: %w", err)
	}
	return nil
}
