package command

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// arguments checks the number of a command's arguments by their names, and names
// those that are missing. In brackets stands what may be left out; the last one may
// end with dots and then be repeated.
func arguments(names ...string) cobra.PositionalArgs {
	var required []string
	for _, name := range names {
		if !strings.HasPrefix(name, "[") {
			required = append(required, strings.TrimSuffix(name, "..."))
		}
	}
	repeated := strings.HasSuffix(strings.TrimSuffix(names[len(names)-1], "]"), "...")
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(required):
			return usagef("%s needs %s", cmd.CommandPath(), strings.Join(required, " and "))
		case len(args) > len(names) && !repeated:
			return usagef("%s %s: %q is one too many", cmd.CommandPath(), strings.Join(names, " "), args[len(names)])
		default:
			return nil
		}
	}
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "x"):
		noun += "es"
	case strings.HasSuffix(noun, "ry"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// are is the verb of so many things.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
