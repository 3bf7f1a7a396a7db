package daemon

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
)

// Logging are the settings of a program's log.
type Logging struct {
	// Level is trace, debug, info, warn or error.
	Level string
	// Format is plain or json, in any case.
	Format string
	// Filter only exists for the variable of the older system.
	Filter string
}

// Bind declares the flags.
func (l *Logging) Bind(fs *pflag.FlagSet) {
	fs.StringVar(&l.Level, "log-level", "info", "trace, debug, info, warn or error")
	fs.StringVar(&l.Format, "log-format", "plain", "plain or json")
	fs.StringVar(&l.Filter, "log-filter", "", "older form of --log-level: the first level word in it counts")
	fs.Lookup("log-filter").Hidden = true
}

// Resolve gives the older setting its place, unless the newer one was set.
func (l *Logging) Resolve(fs *pflag.FlagSet) {
	if l.Filter != "" && !fs.Changed("log-level") {
		l.Level = firstLevel(l.Filter)
	}
}

// Validate reports all settings that cannot be used.
func (l *Logging) Validate() error {
	var errs []error
	if !isLevel(l.Level) {
		errs = append(errs, fmt.Errorf("--log-level: %q is none of trace, debug, info, warn, error", l.Level))
	}
	if f := strings.ToLower(l.Format); f != "plain" && f != "json" {
		errs = append(errs, fmt.Errorf("--log-format: %q is neither plain nor json", l.Format))
	}
	return errors.Join(errs...)
}

// Logger makes the program's logger, to which sinks may be added.
func (l *Logging) Logger(name string, w io.Writer) hclog.InterceptLogger {
	return hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name: name, Level: hclog.LevelFromString(l.Level), JSONFormat: strings.EqualFold(l.Format, "json"), Output: w,
	})
}

// WarnIneffective says which variables are set in vain, with the reason: a
// migrating operator is told rather than left to wonder.
func WarnIneffective(log hclog.Logger, reasons map[string]string, lookup func(string) (string, bool)) {
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if _, set := lookup(name); set {
			log.Warn("variable has no effect", "variable", name, "reason", reasons[name])
		}
	}
}

// firstLevel finds the first level word in a filter such as "info,pm=debug".
func firstLevel(filter string) string {
	for _, word := range strings.FieldsFunc(strings.ToLower(filter), func(r rune) bool { return r == ',' || r == '=' || r == ' ' }) {
		if isLevel(word) {
			return word
		}
	}
	return "info"
}

func isLevel(word string) bool {
	switch word {
	case "trace", "debug", "info", "warn", "error":
		return true
	default:
		return false
	}
}
