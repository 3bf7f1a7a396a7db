package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxAliased bounds the values that the aliases of a file may expand to. What is
// written out is bounded by the size of the file itself.
const maxAliased = 1 << 16

// Document is one document of a manifest: a package or a deployment.
type Document struct {
	Package    *OPackage
	Deployment *OClassDeployment
	// Line is where the document starts, from 1.
	Line int
}

// DecodeManifest reads what a user keeps in a file: any number of YAML documents,
// or one JSON document, each a package or a deployment. A document is a
// deployment when it has a class_key. Empty documents are skipped. The error is a
// *DecodeError.
func DecodeManifest(data []byte) ([]Document, error) {
	if in := strings.TrimLeft(string(data), " \t\r\n"); strings.HasPrefix(in, "{") {
		if root, err := parseJSON(string(data)); err == nil {
			src := source{json: string(data)}
			doc, err := decodeDocument(&root)
			if err != nil {
				return nil, src.locate(err)
			}
			doc.Line = 1 + strings.Count(string(data[:root.at]), "\n")
			return []Document{doc}, nil
		}
		// It may still be YAML in flow style.
	}
	src := source{yaml: true}
	roots, err := parseYAML(data)
	if err != nil {
		return nil, src.locate(err)
	}
	var docs []Document
	for i := range roots {
		doc, err := decodeDocument(&roots[i])
		if err != nil {
			return nil, src.locate(err)
		}
		doc.Line = int(roots[i].at >> 32)
		docs = append(docs, doc)
	}
	return docs, nil
}

func decodeDocument(root *node) (Document, *DecodeError) {
	root.closeExtensions()
	for i := range root.members {
		if root.members[i].name == "class_key" {
			dep := new(OClassDeployment)
			return Document{Deployment: dep}, deploymentTable.decode(root, dep)
		}
	}
	pkg := new(OPackage)
	return Document{Package: pkg}, packageTable.decode(root, pkg)
}

// DecodePackageYAML reads a file that holds exactly one package.
func DecodePackageYAML(data []byte) (*OPackage, error) {
	docs, err := DecodeManifest(data)
	switch {
	case err != nil:
		return nil, err
	case len(docs) != 1 || docs[0].Package == nil:
		return nil, &DecodeError{Kind: Schema, Offset: -1, Msg: fmt.Sprintf("must hold exactly one package, got %d documents%s", len(docs), noPackage(docs))}
	}
	return docs[0].Package, nil
}

func noPackage(docs []Document) string {
	for _, d := range docs {
		if d.Package == nil {
			return fmt.Sprintf(" with a deployment in line %d", d.Line)
		}
	}
	return ""
}

// parseYAML reads all documents that are not empty.
func parseYAML(data []byte) (roots []node, failure *DecodeError) {
	defer func() {
		// The YAML library has had panics on hostile input. One more must not end
		// the program.
		if r := recover(); r != nil {
			roots, failure = nil, &DecodeError{Kind: Syntax, Msg: fmt.Sprintf("not readable as YAML: %v", r)}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	conv := yamlConverter{}
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, yamlSyntax(err)
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
			continue
		}
		root, failure := conv.convert(doc.Content[0], 0)
		if failure != nil {
			return nil, failure
		}
		if root.kind != nodeNull {
			roots = append(roots, root)
		}
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlSyntax takes the position out of the library's message.
func yamlSyntax(err error) *DecodeError {
	text := err.Error()
	found := yamlLine.FindStringSubmatch(text)
	out := &DecodeError{Kind: Syntax, Msg: "not readable as YAML: " + text}
	if found != nil {
		out.Msg = "not readable as YAML: " + strings.TrimPrefix(text, found[0])
		if line, err := strconv.ParseInt(found[1], 10, 32); err == nil {
			out.at = yamlAt(int(line), 0)
		}
	}
	return out
}

// yamlConverter turns the library's nodes into ours. Aliases are expanded, so it
// counts what comes of them.
type yamlConverter struct {
	aliased int // values made while expanding an alias
	inside  int // depth of aliases that are being expanded
}

func (c *yamlConverter) fail(n *yaml.Node, format string, args ...any) *DecodeError {
	return &DecodeError{Kind: Schema, Msg: fmt.Sprintf(format, args...), at: yamlAt(n.Line, n.Column)}
}

func (c *yamlConverter) convert(n *yaml.Node, depth int) (node, *DecodeError) {
	if depth > maxDepth {
		return node{}, c.fail(n, "nested deeper than %d levels", maxDepth)
	}
	if c.inside > 0 {
		if c.aliased++; c.aliased > maxAliased {
			return node{}, c.fail(n, "aliases expand to more than %d values, write some of them out", maxAliased)
		}
	}
	out := node{at: yamlAt(n.Line, n.Column)}
	switch n.Kind {
	case yaml.AliasNode:
		c.inside++
		out, err := c.convert(n.Alias, depth+1)
		c.inside--
		return out, err
	case yaml.ScalarNode:
		return c.scalar(n, out)
	case yaml.SequenceNode:
		out.kind = nodeArray
		for _, item := range n.Content {
			value, err := c.convert(item, depth+1)
			if err != nil {
				return node{}, err
			}
			out.items = append(out.items, value)
		}
		return out, nil
	case yaml.MappingNode:
		out.kind = nodeObject
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind == yaml.AliasNode {
				key = key.Alias
			}
			if key.Kind != yaml.ScalarNode {
				return node{}, c.fail(key, "a field name must be plain text")
			}
			if key.ShortTag() == "!!merge" {
				return node{}, c.fail(key, "merge keys (<<) are not supported, write the fields out")
			}
			value, err := c.convert(n.Content[i+1], depth+1)
			if err != nil {
				return node{}, err
			}
			out.members = append(out.members, member{key.Value, value})
		}
		return out, nil
	default:
		return node{}, c.fail(n, "not a value")
	}
}

// scalar resolves what a scalar means. The source text is kept, for fields that
// want a string.
func (c *yamlConverter) scalar(n *yaml.Node, out node) (node, *DecodeError) {
	out.kind, out.text = nodeString, n.Value
	out.plain = n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch n.ShortTag() {
	case "!!null":
		out.kind = nodeNull
	case "!!bool":
		if text := strings.ToLower(n.Value); text == "true" || text == "false" {
			out.kind = nodeBool
		}
	case "!!int":
		var unsigned uint64
		var signed int64
		switch {
		case n.Decode(&unsigned) == nil:
			out.kind, out.number = nodeNumber, strconv.FormatUint(unsigned, 10)
		case n.Decode(&signed) == nil:
			out.kind, out.number = nodeNumber, strconv.FormatInt(signed, 10)
		}
	case "!!float":
		var v float64
		if n.Decode(&v) == nil {
			if literal, err := appendFloat(nil, v); err == nil {
				out.kind, out.number = nodeNumber, string(literal)
			}
		}
	}
	return out, nil
}
