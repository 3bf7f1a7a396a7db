// Package bench reports measurements against the bounds that the product
// promises: as a table for people and as JSON for machines, in one form for all
// benchmark targets of the Makefile.
package bench
