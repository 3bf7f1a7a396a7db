package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// FileFlag is the name of the flag that names the YAML file. Load adds nothing:
// call AddFileFlag before the command line is parsed.
const FileFlag = "config"

// Source says where settings come from besides the command line.
type Source struct {
	// EnvPrefix is the prefix of the program's own variables, without underscore.
	EnvPrefix string
	// Legacy lists further variables per flag name, the first set one wins.
	Legacy map[string][]string
	// Foreign lists prefixes of variables that begin with EnvPrefix but are not this
	// program's.
	Foreign []string
	// Environ gives the environment as KEY=VALUE. Default os.Environ.
	Environ func() []string
}

// AddFileFlag declares the flag that names the YAML file.
func AddFileFlag(fs *pflag.FlagSet) {
	fs.String(FileFlag, "", "YAML file with settings; its keys are the names of the flags")
}

// Load sets every flag of fs that was not given on the command line from the
// environment or the file. It must be called after fs was parsed.
func Load(fs *pflag.FlagSet, src Source) error {
	if src.Environ == nil {
		src.Environ = os.Environ
	}
	k := koanf.New("\x00") // flag names are flat: no key is ever split
	if err := loadFile(k, fs, src); err != nil {
		return err
	}
	if err := loadLegacy(k, src); err != nil {
		return err
	}
	if err := loadEnv(k, fs, src); err != nil {
		return err
	}
	for name, value := range k.Raw() {
		flag := fs.Lookup(name)
		if flag.Changed {
			continue
		}
		if err := set(fs, name, value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

func loadFile(k *koanf.Koanf, fs *pflag.FlagSet, src Source) error {
	path, _ := fs.GetString(FileFlag)
	if path == "" {
		path = lookup(src.Environ(), src.EnvPrefix+"_CONFIG")
	}
	if path == "" {
		return nil
	}
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("read configuration file %s: %w", path, err)
	}
	for key := range k.Raw() {
		if fs.Lookup(key) == nil || key == FileFlag {
			return fmt.Errorf("configuration file %s: unknown key %q%s", path, key, didYouMean(fs, key))
		}
	}
	return nil
}

func loadLegacy(k *koanf.Koanf, src Source) error {
	values := map[string]any{}
	for name, vars := range src.Legacy {
		for _, v := range vars {
			if value := lookup(src.Environ(), v); value != "" {
				values[name] = value
				break
			}
		}
	}
	return k.Load(confmap.Provider(values, "\x00"), nil)
}

func loadEnv(k *koanf.Koanf, fs *pflag.FlagSet, src Source) error {
	var unknown []string
	prefix := src.EnvPrefix + "_"
	err := k.Load(env.Provider("\x00", env.Opt{
		Prefix:      prefix,
		EnvironFunc: src.Environ,
		TransformFunc: func(key, value string) (string, any) {
			if foreign(src, key) {
				return "", nil
			}
			name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, prefix)), "_", "-")
			if name == FileFlag {
				return "", nil
			}
			if fs.Lookup(name) == nil {
				unknown = append(unknown, key)
				return "", nil
			}
			return name, value
		},
	}), nil)
	if err != nil {
		return fmt.Errorf("read environment: %w", err)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unknown environment variables with prefix %s: %s", prefix, strings.Join(unknown, ", "))
	}
	return nil
}

// serviceLink matches the variables that Kubernetes injects for a Service whose
// name is the prefix.
var serviceLink = regexp.MustCompile(`^(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// foreign reports whether a variable only happens to share the prefix.
func foreign(src Source, key string) bool {
	for _, prefix := range src.Foreign {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return serviceLink.MatchString(strings.TrimPrefix(key, src.EnvPrefix+"_"))
}

// set gives a flag a value of the file or the environment. Lists and maps of the
// file replace the flag's value as a whole.
func set(fs *pflag.FlagSet, name string, value any) error {
	if entries, ok := value.(map[string]any); ok {
		parts := make([]string, 0, len(entries))
		for k, v := range entries {
			parts = append(parts, fmt.Sprintf("%s=%v", k, v))
		}
		slices.Sort(parts)
		return fs.Set(name, strings.Join(parts, ","))
	}
	list, ok := value.([]any)
	if !ok {
		return fs.Set(name, fmt.Sprint(value))
	}
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprint(v)
	}
	if s, ok := fs.Lookup(name).Value.(pflag.SliceValue); ok {
		if err := s.Replace(parts); err != nil {
			return err
		}
		fs.Lookup(name).Changed = true
		return nil
	}
	return fmt.Errorf("takes one value, the file gives a list of %d", len(list))
}

func lookup(environ []string, key string) string {
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// didYouMean names a flag that differs only in separators or case.
func didYouMean(fs *pflag.FlagSet, key string) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	hint := ""
	fs.VisitAll(func(f *pflag.Flag) {
		if plain(f.Name) == plain(key) {
			hint = fmt.Sprintf(" (did you mean %q?)", f.Name)
		}
	})
	return hint
}
