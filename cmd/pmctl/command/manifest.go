package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"oaas.io/control-plane/model"
)

// maxManifest bounds one file.
const maxManifest = 64 << 20

// manifest is everything that the files of one command hold.
type manifest struct {
	// packages are in an order in which dependencies come first.
	packages    []sourced[*model.OPackage]
	deployments []sourced[*model.OClassDeployment]
}

// sourced is a document with the place that it comes from.
type sourced[T any] struct {
	doc T
	at  string // file:line
}

// readManifest reads files, directories and - for standard input, and checks
// all of it. All problems of all files are reported together.
func (a *app) readManifest(paths []string) (*manifest, error) {
	var m manifest
	var errs []error
	for _, path := range paths {
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if err := a.readFile(file, &m); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(m.packages)+len(m.deployments) == 0 {
		return nil, fmt.Errorf("%s: no packages and no deployments found", strings.Join(paths, ", "))
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	m.sortPackages()
	return &m, nil
}

// manifestFiles lists the files of a directory, not of those below it.
func manifestFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, unreadable(path, err)
	}
	var out []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json files in this directory", path)
	}
	return out, nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file or directory", path)
	}
	return err
}

func (a *app) readFile(path string, m *manifest) error {
	shown, in := path, a.In
	if path == "-" {
		shown = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return unreadable(path, err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", shown, err)
	}
	if len(data) > maxManifest {
		return fmt.Errorf("%s is larger than %d MiB", shown, maxManifest>>20)
	}
	docs, err := model.DecodeManifest(data)
	if err != nil {
		return fmt.Errorf("%s: %w", shown, err)
	}
	for _, d := range docs {
		m.add(d, fmt.Sprintf("%s:%d", shown, d.Line))
	}
	return nil
}

// add takes the deployments out of a package: each is posted on its own.
func (m *manifest) add(d model.Document, at string) {
	if d.Deployment != nil {
		m.deployments = append(m.deployments, sourced[*model.OClassDeployment]{d.Deployment, at})
		return
	}
	for i := range d.Package.Deployments {
		dep := &d.Package.Deployments[i]
		if dep.PackageName == "" {
			dep.PackageName = d.Package.Name
		}
		m.deployments = append(m.deployments, sourced[*model.OClassDeployment]{dep, at})
	}
	d.Package.Deployments = nil
	m.packages = append(m.packages, sourced[*model.OPackage]{d.Package, at})
}

func (m *manifest) validate() error {
	var errs []error
	packages, keys := map[string]string{}, map[string]string{}
	twice := func(seen map[string]string, kind, name, at string) {
		if first, ok := seen[name]; ok {
			errs = append(errs, fmt.Errorf("%s: %s %q is already defined at %s", at, kind, name, first))
		}
		seen[name] = at
	}
	for _, p := range m.packages {
		twice(packages, "package", p.doc.Name, p.at)
		if err := p.doc.Validate(); err != nil {
			errs = append(errs, invalid(p.at, "package "+p.doc.Name, err))
		}
	}
	for _, d := range m.deployments {
		twice(keys, "deployment", d.doc.Key, d.at)
		if err := d.doc.Validate(); err != nil {
			errs = append(errs, invalid(d.at, "deployment "+d.doc.Key, err))
			continue
		}
		if err := m.checkDeployable(d.doc); err != nil {
			errs = append(errs, fmt.Errorf("%s: deployment %s: %w", d.at, d.doc.Key, err))
		}
	}
	return errors.Join(errs...)
}

// invalid words a failed validation with one line per problem.
func invalid(at, what string, err error) error {
	var v *model.ValidationError
	if !errors.As(err, &v) {
		return fmt.Errorf("%s: %s: %w", at, what, err)
	}
	text := fmt.Sprintf("%s: %s is not valid:", at, what)
	for _, p := range v.Problems {
		text += "\n  - " + p.String()
	}
	return errors.New(text)
}

// checkDeployable finds what the server would refuse after the package was
// already stored, as far as the package is part of the same files.
func (m *manifest) checkDeployable(d *model.OClassDeployment) error {
	i := slices.IndexFunc(m.packages, func(p sourced[*model.OPackage]) bool { return p.doc.Name == d.PackageName })
	if i < 0 {
		return nil
	}
	pkg := m.packages[i].doc
	c := slices.IndexFunc(pkg.Classes, func(c model.OClass) bool { return c.Key == d.ClassKey })
	if c < 0 {
		return fmt.Errorf("package %s has no class %q; correct class_key or add the class", pkg.Name, d.ClassKey)
	}
	if len(d.Functions) > 0 {
		return nil // the deployment says itself how its functions run
	}
	for _, b := range pkg.Classes[c].FunctionBindings {
		for _, f := range pkg.Functions {
			if f.Key == b.FunctionKey && model.MissingImage(f.FunctionType, f.ProvisionConfig) {
				return fmt.Errorf("function %s has nothing to run; set its provision_config.container_image or provision_config.wasm_module_url", f.Key)
			}
		}
	}
	return nil
}

// sortPackages puts each package after those of the same files that it depends
// on, and otherwise keeps the order of the files. Cycles are the server's to
// refuse.
func (m *manifest) sortPackages() {
	byName := map[string]sourced[*model.OPackage]{}
	for _, p := range m.packages {
		byName[p.doc.Name] = p
	}
	var out []sourced[*model.OPackage]
	visited := map[string]bool{}
	var visit func(p sourced[*model.OPackage])
	visit = func(p sourced[*model.OPackage]) {
		if visited[p.doc.Name] {
			return
		}
		visited[p.doc.Name] = true
		for _, name := range p.doc.Dependencies {
			if dep, ok := byName[name]; ok {
				visit(dep)
			}
		}
		out = append(out, p)
	}
	for _, p := range m.packages {
		visit(p)
	}
	m.packages = out
}
