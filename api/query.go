package api

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"oaas.io/control-plane/registry"
)

// query reads query parameters and remembers the first that is wrong.
type query struct {
	values url.Values
	err    error
}

func parseQuery(raw string) *query {
	values, err := url.ParseQuery(raw)
	q := &query{values: values}
	if err != nil {
		q.err = fail(registry.InvalidArgument, "The query string cannot be read: %v", err)
	}
	return q
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) wrong(name, want string) {
	if q.err == nil {
		q.err = fail(registry.InvalidArgument, "Query parameter %s must be %s, got %q", name, want, q.values.Get(name))
	}
}

func (q *query) flag(name string) bool {
	if !q.values.Has(name) {
		return false
	}
	switch q.values.Get(name) {
	case "", "true", "1":
		return true
	case "false", "0":
		return false
	}
	q.wrong(name, "true or false")
	return false
}

// number gives a non-negative integer, or -1 when the parameter is absent.
func (q *query) number(name string) int {
	if !q.values.Has(name) {
		return -1
	}
	n, err := strconv.ParseUint(q.values.Get(name), 10, 31)
	if err != nil {
		q.wrong(name, "a non-negative integer")
		return -1
	}
	return int(n)
}

func (q *query) index(name string) uint64 {
	if !q.values.Has(name) {
		return 0
	}
	n, err := strconv.ParseUint(q.values.Get(name), 10, 64)
	if err != nil {
		q.wrong(name, "an index from the header PM-Index")
	}
	return n
}

// duration accepts 1m30s and whole seconds.
func (q *query) duration(name string) time.Duration {
	if !q.values.Has(name) {
		return 0
	}
	text := q.values.Get(name)
	d, err := time.ParseDuration(text)
	if seconds, notInt := strconv.ParseUint(text, 10, 31); notInt == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 {
		q.wrong(name, "a duration such as 60s")
		return 0
	}
	return d
}

// list gives the values of a parameter that may be repeated or hold commas.
func (q *query) list(name string) []string {
	var out []string
	for _, v := range q.values[name] {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// page cuts a list by offset and limit.
type page struct{ offset, limit int }

func (q *query) page() page { return page{offset: q.number("offset"), limit: q.number("limit")} }

func cut[T any](list []T, p page) []T {
	if p.offset > 0 {
		list = list[min(p.offset, len(list)):]
	}
	if p.limit >= 0 {
		list = list[:min(p.limit, len(list))]
	}
	return list
}
