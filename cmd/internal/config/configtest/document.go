// Package configtest holds the documentation of settings against the programs.
package configtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Section gives the part of a Markdown file below one heading of the second level.
func Section(t testing.TB, path, heading string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split("\n"+string(raw), "\n## ")[1:] {
		if title, text, _ := strings.Cut(part, "\n"); title == heading {
			return text
		}
	}
	t.Fatalf("%s has no section %q", path, heading)
	return ""
}

// Flags reports every flag that has no row in the section, with its variable and
// its default. fs must be bound and not parsed; prefix is that of the variables.
func Flags(t testing.TB, section, prefix string, fs *pflag.FlagSet) {
	t.Helper()
	rows := map[string][]string{}
	for _, line := range strings.Split(section, "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(line, "| `--") {
			rows[strings.Trim(cells[1], " `")] = cells
		}
	}
	fs.VisitAll(func(f *pflag.Flag) {
		cells, documented := rows["--"+f.Name]
		delete(rows, "--"+f.Name)
		if !documented {
			t.Errorf("--%s is not documented", f.Name)
			return
		}
		variable := "`" + prefix + "_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) + "`"
		if strings.TrimSpace(cells[2]) != variable {
			t.Errorf("--%s: the variable is %s, the documentation says %s", f.Name, variable, cells[2])
		}
		// Empty ones are explained in words.
		if value := f.Value.String(); value != "" && value != "[]" && !strings.Contains(cells[3], "`"+value+"`") {
			t.Errorf("--%s: the default is %s, the documentation says %s", f.Name, value, cells[3])
		}
	})
	for name := range rows {
		t.Errorf("%s is documented and does not exist", name)
	}
}

// Variables reports every variable that the section does not name.
func Variables(t testing.TB, section string, names []string) {
	t.Helper()
	for _, name := range names {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("variable %s is not documented", name)
		}
	}
}

// Examples writes the YAML examples of the section to files and gives their names.
func Examples(t testing.TB, section string) []string {
	t.Helper()
	var files []string
	for _, part := range strings.Split(section, "\n```yaml\n")[1:] {
		text, _, _ := strings.Cut(part, "\n```")
		file := filepath.Join(t.TempDir(), "example.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		t.Fatal("the section has no example")
	}
	return files
}
