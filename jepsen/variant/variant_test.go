package variant

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the root of the module, from here.
const module = "../.."

func TestCatalogue(t *testing.T) {
	diffs, err := filepath.Glob("guards/*.diff")
	if err != nil {
		t.Fatal(err)
	}
	if len(diffs) != len(All())+1 {
		t.Errorf("%d diffs for %d variants and the banner", len(diffs), len(All()))
	}
	guards := map[string]bool{}
	for _, v := range All() {
		if v.Name == "" || v.Guard == "" || v.Removed == "" || v.Breaks == "" || v.Schedule == "" || v.TimeBox <= 0 ||
			len(v.Nemeses) == 0 || len(v.Workloads) == 0 || len(v.Checks) == 0 {
			t.Errorf("%+v is not whole", v)
		}
		// That a disk forgets needs a disk that does: TestPowerCut.
		if len(v.Tests) == 0 && v.Name != "fsync-off" {
			t.Errorf("%s has no test that fails without the guard", v.Name)
		}
		if guards[v.Guard] || strings.ContainsFunc(v.Guard, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }) {
			t.Errorf("%s: %q is no name of a guard of its own", v.Name, v.Guard)
		}
		guards[v.Guard] = true
		if found, err := Find(v.Name); err != nil || found.Guard != v.Guard {
			t.Errorf("Find(%q) = %+v, %v", v.Name, found, err)
		}
	}
	if _, err := Find("none"); err == nil {
		t.Error("a variant that does not exist is found")
	}
}

// Every diff must fit the tree as it is, and what it makes must compile.
func TestVariantsCompile(t *testing.T) {
	for _, v := range All() {
		t.Run(v.Name, func(t *testing.T) {
			replaced, err := Overlay(module, t.TempDir(), v.Name)
			if err != nil {
				t.Fatal(err)
			}
			files, err := v.files(module)
			if err != nil {
				t.Fatal(err)
			}
			packages := map[string]bool{}
			for path := range files {
				packages["./"+filepath.Dir(path)] = true
			}
			args := []string{"build", "-overlay", replaced}
			for p := range packages {
				args = append(args, p)
			}
			if err := runGo(t.Context(), module, args...); err != nil {
				t.Error(err)
			}
		})
	}
}

// A program without a guard says so, however its version was set.
func TestVersionSaysWhatIsMissing(t *testing.T) {
	v := All()[0]
	dir := t.TempDir()
	replaced, err := Overlay(module, dir, v.Name)
	if err != nil {
		t.Fatal(err)
	}
	addProbe(t, replaced)
	probe := filepath.Join(dir, "probe")
	err = runGo(t.Context(), module, "build", "-overlay", replaced, "-ldflags", "-X oaas.io/control-plane/cmd/internal/version.Version=v1.2.3", "-o", probe, "./cmd/probe")
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), probe).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if want := "v1.2.3+without-" + v.Guard; !strings.HasPrefix(string(said), want+"\n") || !strings.Contains(string(said), "[WARN]") || strings.Count(string(said), want) != 2 {
		t.Errorf("it says\n%swant the version %s and a warning with it", said, want)
	}
}

// addProbe puts one more program into an overlay. It lies where it may use what the programs
// have in common.
func addProbe(t *testing.T, path string) {
	t.Helper()
	o := readOverlay(t, path)
	root, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("testdata/probe.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	o.Replace[filepath.Join(root, "cmd/probe/main.go")] = source
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, raw); err != nil {
		t.Fatal(err)
	}
}

func readOverlay(t *testing.T, path string) (o overlay) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// What is released has all guards: no program knows of this package, the tree has none of
// the files that a variant adds, and what a variant replaces is there.
func TestReleasesAreWhole(t *testing.T) {
	if _, err := os.Stat(filepath.Join(module, suffixFile)); !os.IsNotExist(err) {
		t.Errorf("the tree has %s: %v", suffixFile, err)
	}
	for _, program := range []string{"pmd", "crm", "pmctl"} {
		for _, dep := range dependencies(t, "./cmd/"+program) {
			if strings.HasPrefix(dep, "oaas.io/control-plane/jepsen") {
				t.Errorf("%s is built from %s", program, dep)
			}
		}
	}
	for _, v := range All() {
		for _, name := range []string{banner, v.Name} {
			raw, err := guards.ReadFile("guards/" + name + ".diff")
			if err != nil {
				t.Fatal(err)
			}
			files, err := parseDiff(name, raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				text, err := os.ReadFile(filepath.Join(module, f.path))
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range f.hunks {
					if !strings.Contains(string(text), h.old) {
						t.Errorf("%s: the tree does not have the guard", v.Name)
					}
				}
			}
		}
	}
}

func dependencies(t *testing.T, program string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", program)
	cmd.Dir = module
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestOverlayNamesWholePaths(t *testing.T) {
	path, err := Overlay(module, t.TempDir(), "fence-off")
	if err != nil {
		t.Fatal(err)
	}
	got := readOverlay(t, path)
	var names []string
	for from, to := range got.Replace {
		if !filepath.IsAbs(from) || !filepath.IsAbs(to) {
			t.Errorf("%s -> %s", from, to)
		}
		names = append(names, filepath.Base(from))
	}
	slices.Sort(names)
	if want := []string{"agent.go", "deliver.go", "logging.go", "oaas.io_classruntimes.yaml", "without.go"}; !slices.Equal(names, want) {
		t.Errorf("replaced are %q, want %q", names, want)
	}
}

// A tree whose guard is another one is not built.
func TestBuildOfAnotherTree(t *testing.T) {
	if _, err := Build(t.Context(), t.TempDir(), t.TempDir(), "fsync-off"); err == nil {
		t.Error("an empty tree is built")
	}
	if _, err := Build(t.Context(), module, t.TempDir(), "none"); err == nil {
		t.Error("a variant that does not exist is built")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, module, t.TempDir(), "fsync-off"); err == nil {
		t.Error("built although nobody waits for it any more")
	}
}
