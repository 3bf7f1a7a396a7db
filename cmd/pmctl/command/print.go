package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// listing is what get hands to a printer.
type listing struct {
	kind *resource
	// items are the API's own objects.
	items []any
	// single is set when one object was asked for by name.
	single bool
}

// printer writes a listing in one format.
type printer interface {
	print(w io.Writer, l listing) error
}

var formats = []string{"table", "wide", "json", "yaml", "name", jsonPathHint}

// newPrinter gives the printer of a format.
func (a *app) newPrinter(format string, noHeaders bool) (printer, error) {
	if err := checkFormat(format, formats); err != nil {
		return nil, err
	}
	switch format {
	case "", "table":
		return tablePrinter{app: a, noHeaders: noHeaders}, nil
	case "wide":
		return tablePrinter{app: a, noHeaders: noHeaders, wide: true}, nil
	case "name":
		return namePrinter{}, nil
	default:
		return structuredPrinter{format}, nil
	}
}

// outputFlag declares -o.
func outputFlag(cmd *cobra.Command, format *string) { formatFlag(cmd, format, formats) }

type tablePrinter struct {
	app             *app
	wide, noHeaders bool
}

func (p tablePrinter) print(w io.Writer, l listing) error {
	if len(l.items) == 0 {
		p.app.errorf("No %s found.\n", l.kind.plural)
		return nil
	}
	var t table
	columns := l.kind.columns
	if p.wide {
		columns = append(columns[:len(columns):len(columns)], l.kind.wide...)
	}
	for _, c := range columns {
		if !p.noHeaders {
			t.header = append(t.header, c.title)
		}
	}
	for _, item := range l.items {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = orDash(c.value(p.app, item))
		}
		t.add(row...)
	}
	return t.write(w)
}

type namePrinter struct{}

func (namePrinter) print(w io.Writer, l listing) error {
	for _, item := range l.items {
		if _, err := fmt.Fprintf(w, "%s/%s\n", l.kind.singular, l.kind.name(item)); err != nil {
			return err
		}
	}
	return nil
}

// value is what the structured formats print: the object, or the list of them.
func (l listing) value() any {
	switch {
	case l.single && len(l.items) == 1:
		return l.items[0]
	case len(l.items) == 0:
		return []any{}
	default:
		return l.items
	}
}

// encodeJSON gives compact JSON without HTML escaping.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	return b.Bytes(), nil
}

// structuredPrinter prints for programs.
type structuredPrinter struct{ format string }

func (p structuredPrinter) print(w io.Writer, l listing) error {
	return printStructured(w, p.format, l.value())
}

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	raw, err := encodeJSON(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// printYAML writes a value's JSON as YAML, in the same field order.
func printYAML(w io.Writer, v any) error {
	raw, err := encodeJSON(v)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	root, err := yamlNode(dec)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return err
	}
	return enc.Close()
}

// yamlNode turns the next JSON value into YAML. Objects keep their order, which
// maps would lose.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}, nil
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for dec.More() {
			// Of an object, keys and values follow each other.
			child, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		if _, err := dec.Token(); err != nil { // the closing bracket
			return nil, err
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n, nil
	case string:
		return scalar("!!str", v)
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return scalar("!!float", v.String())
		}
		return scalar("!!int", v.String())
	case bool:
		return scalar("!!bool", fmt.Sprint(v))
	default:
		return scalar("!!null", "null")
	}
}
