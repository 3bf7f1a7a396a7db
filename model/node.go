package model

import (
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document. The deepest real document has 8
// levels; the bound keeps recursion away from the end of the stack.
const maxDepth = 128

type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeBool
	nodeNumber
	nodeString
	nodeArray
	nodeObject
)

func (k nodeKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// node is a value of a parsed document, whichever syntax it was written in.
type node struct {
	kind nodeKind
	// plain marks a YAML scalar without quotes. It serves as a string whatever it
	// looks like.
	plain bool
	// text is the value of a string, "true" or "false", the literal of a JSON
	// number, or the source text of a plain YAML scalar.
	text string
	// number is the value of a number in JSON notation.
	number string
	// strict makes an object refuse fields that its table does not have.
	strict  bool
	items   []node
	members []member
	at      int64
}

type member struct {
	name  string
	value node
}

// closeExtensions makes the placements, pod settings, rollouts and failovers of a document strict, those
// of a deployment and those in a package: they are our extension, so no client of others
// sends more than we know, and a wish that is misspelt must not pass for none.
func (n *node) closeExtensions() {
	for i := range n.members {
		switch m := &n.members[i]; m.name {
		case "placement", "pods", "rollout", "failover":
			m.value.close()
		case "deployments", "classes":
			for k := range m.value.items {
				m.value.items[k].closeExtensions()
			}
		}
	}
}

func (n *node) close() {
	n.strict = true
	for i := range n.items {
		n.items[i].close()
	}
	for i := range n.members {
		n.members[i].value.close()
	}
}

// source locates the nodes of one document. JSON nodes know their byte offset,
// YAML nodes know line and column.
type source struct {
	json string
	yaml bool
}

// yamlAt packs a YAML position into node.at.
func yamlAt(line, column int) int64 { return int64(line)<<32 | int64(uint32(column)) }

// locate completes an error that was made deeper down.
func (s source) locate(e *DecodeError) *DecodeError {
	e.Path = strings.TrimPrefix(e.Path, ".")
	if s.yaml {
		e.Line, e.Column, e.Offset = int(e.at>>32), int(uint32(e.at)), -1
		return e
	}
	before := s.json[:e.at]
	e.Offset = e.at
	e.Line = strings.Count(before, "\n") + 1
	e.Column = utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return e
}
