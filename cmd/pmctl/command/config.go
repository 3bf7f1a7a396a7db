package command

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

const defaultServer = "http://localhost:8080"

// settings is the configuration file.
type settings struct {
	CurrentContext string                     `yaml:"current-context,omitempty"`
	Contexts       map[string]contextSettings `yaml:"contexts,omitempty"`
}

// contextSettings is one cluster that the user works with.
type contextSettings struct {
	Servers []string `yaml:"servers"`
}

func (a *app) configPath() (string, error) {
	if a.flags.config != "" {
		return a.flags.config, nil
	}
	if path := a.Getenv("PMCTL_CONFIG"); path != "" {
		return path, nil
	}
	dir := a.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := a.HomeDir()
		if err != nil {
			return "", fmt.Errorf("find the home directory: %w", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "oaas", "pmctl.yaml"), nil
}

// settings reads the configuration file. A file that does not exist is empty;
// one that cannot be read is an error and is never overwritten.
func (a *app) settings() (settings, string, error) {
	var s settings
	path, err := a.configPath()
	if err != nil {
		return s, "", &usageError{err}
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, path, nil
	}
	if err != nil {
		return s, path, &usageError{fmt.Errorf("read configuration: %w", err)}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil && len(strings.TrimSpace(string(data))) > 0 {
		return s, path, &usageError{fmt.Errorf("configuration %s: %w", path, err)}
	}
	return s, path, nil
}

// save replaces the file as a whole, so that a crash leaves the old or the new.
func (s settings) save(path string) error {
	data, err := yaml.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create directory of the configuration: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pmctl-*.yaml") // mode 0600
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return errors.Join(fmt.Errorf("write configuration: %w", err), os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("write configuration: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// servers decides whom to talk to.
func (a *app) servers() ([]string, error) {
	if len(a.flags.servers) > 0 {
		return a.flags.servers, nil
	}
	name := a.flags.context
	if name == "" {
		if list := splitServers(a.Getenv("PMCTL_SERVER")); len(list) > 0 {
			return list, nil
		}
	}
	s, path, err := a.settings()
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = s.CurrentContext
	}
	if name == "" {
		return []string{defaultServer}, nil
	}
	c, ok := s.Contexts[name]
	switch {
	case !ok:
		return nil, usagef("no context %q in %s (there are: %s)", name, path, orNone(slices.Sorted(maps.Keys(s.Contexts))))
	case len(c.Servers) == 0:
		return nil, usagef("context %q in %s has no servers", name, path)
	}
	return c.Servers, nil
}

func splitServers(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Manage the contexts of the configuration file", Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(
		&cobra.Command{
			Use: "get-contexts", Short: "List the contexts", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.listContexts() },
		},
		&cobra.Command{
			Use: "current-context", Short: "Print the name of the current context", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				s, path, err := a.settings()
				if err == nil && s.CurrentContext == "" {
					err = fmt.Errorf("no current context in %s", path)
				}
				if err != nil {
					return err
				}
				a.printf("%s\n", s.CurrentContext)
				return nil
			},
		},
		&cobra.Command{
			Use: "use-context NAME", Short: "Make a context the current one", Args: arguments("NAME"),
			ValidArgsFunction: a.completeContexts,
			RunE: func(_ *cobra.Command, args []string) error {
				return a.edit(func(s *settings) (string, error) {
					if _, ok := s.Contexts[args[0]]; !ok {
						return "", usagef("no context %q (there are: %s)", args[0], orNone(slices.Sorted(maps.Keys(s.Contexts))))
					}
					s.CurrentContext = args[0]
					return fmt.Sprintf("Switched to context %q.", args[0]), nil
				})
			},
		},
		&cobra.Command{
			Use: "set-context NAME --server URL[,URL...]", Short: "Create or change a context", Args: arguments("NAME"),
			ValidArgsFunction: a.completeContexts,
			RunE: func(_ *cobra.Command, args []string) error {
				if len(a.flags.servers) == 0 {
					return usagef("--server is required: the URLs of the context")
				}
				return a.edit(func(s *settings) (string, error) {
					if s.Contexts == nil {
						s.Contexts = map[string]contextSettings{}
					}
					s.Contexts[args[0]] = contextSettings{Servers: a.flags.servers}
					if s.CurrentContext == "" {
						s.CurrentContext = args[0]
					}
					return fmt.Sprintf("Context %q set.", args[0]), nil
				})
			},
		},
		&cobra.Command{
			Use: "delete-context NAME", Short: "Remove a context", Args: arguments("NAME"),
			ValidArgsFunction: a.completeContexts,
			RunE: func(_ *cobra.Command, args []string) error {
				return a.edit(func(s *settings) (string, error) {
					if _, ok := s.Contexts[args[0]]; !ok {
						return "", &notFoundError{kind: "context", name: args[0], lister: "config get-contexts"}
					}
					delete(s.Contexts, args[0])
					if s.CurrentContext == args[0] {
						s.CurrentContext = ""
					}
					return fmt.Sprintf("Context %q removed.", args[0]), nil
				})
			},
		},
	)
	return cmd
}

// needSubcommand is what a command group does when called on its own.
func needSubcommand(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usagef("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

func (a *app) edit(change func(*settings) (string, error)) error {
	s, path, err := a.settings()
	if err != nil {
		return err
	}
	done, err := change(&s)
	if err != nil {
		return err
	}
	if err := s.save(path); err != nil {
		return err
	}
	a.printf("%s\n", done)
	return nil
}

func (a *app) listContexts() error {
	s, _, err := a.settings()
	if err != nil {
		return err
	}
	t := table{header: []string{"CURRENT", "NAME", "SERVERS"}}
	for _, name := range slices.Sorted(maps.Keys(s.Contexts)) {
		current := ""
		if name == s.CurrentContext {
			current = "*"
		}
		t.add(current, name, strings.Join(s.Contexts[name].Servers, ","))
	}
	return t.write(a.Out)
}
