// Package crosscheck holds the solver against two others on random problems: one that
// looks at all sets, and the rule of the original system.
package crosscheck
