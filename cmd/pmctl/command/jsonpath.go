package command

import (
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"
)

// The format jsonpath=TEMPLATE has kubectl's syntax and meaning: what is absent is
// empty, and no line end is added. The template is applied to what -o json shows.
const (
	formatJSONPath = "jsonpath"
	jsonPathHint   = formatJSONPath + "=TEMPLATE"
)

// readJSONPath gives the template of a format. It is nil for other formats.
func readJSONPath(format string) (*jsonpath.JSONPath, error) {
	name, text, _ := strings.Cut(format, "=")
	if name != formatJSONPath {
		return nil, nil
	}
	if text == "" {
		return nil, usagef("a template is missing, for instance -o jsonpath={.name}")
	}
	j := jsonpath.New("output").AllowMissingKeys(true)
	if err := j.Parse(text); err != nil {
		return nil, usagef("the template %s cannot be read: %v", text, err)
	}
	return j, nil
}

// printStructured writes a value in one of the formats that programs read.
func printStructured(w io.Writer, format string, value any) error {
	switch format {
	case "json":
		return printJSON(w, value)
	case "yaml":
		return printYAML(w, value)
	}
	// A template is used up by its execution.
	j, err := readJSONPath(format)
	if err != nil {
		return err
	}
	raw, err := encodeJSON(value)
	if err != nil {
		return err
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil { // keeps whole numbers whole
		return fmt.Errorf("encode output: %w", err)
	}
	if err := j.Execute(w, plain); err != nil {
		return fmt.Errorf("the template does not fit what there is: %w", err)
	}
	return nil
}

// checkFormat refuses a format that is none of those allowed, before anything is
// done. jsonpath in the list stands for all its templates.
func checkFormat(format string, allowed []string) error {
	if format == "" { // the default
		return nil
	}
	for _, name := range allowed {
		if name == format && name != jsonPathHint {
			return nil
		}
		if kind, _, _ := strings.Cut(format, "="); name == jsonPathHint && kind == formatJSONPath {
			_, err := readJSONPath(format)
			return err
		}
	}
	return usagef("unknown output format %q, choose one of: %s", format, strings.Join(allowed, ", "))
}
