package command

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

func (a *app) getCommand() *cobra.Command {
	var format string
	var noHeaders bool
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME...] | TYPE/NAME...",
		Short: "List packages, deployments, classes, functions, envs, runtimes, deletions or members",
		Example: `  pmctl get deployments
  pmctl get deployment shop.Cart -o yaml
  pmctl get envs -o wide
  pmctl get deployments -o name`,
		Args:              arguments("TYPE", "[NAME...]"),
		ValidArgsFunction: a.completeTypeAndNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.newPrinter(format, noHeaders)
			if err != nil {
				return err
			}
			kind, names, err := typeAndNames(args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			items, err := kind.fetch(cmd.Context(), c, names)
			if err != nil {
				return err
			}
			if kind.singular == envResource().singular {
				a.warnOfPartition(cmd.Context(), c)
			}
			return p.print(a.Out, listing{kind: kind, items: items, single: len(names) == 1})
		},
	}
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&noHeaders, "no-headers", false, "leave the header line out of tables")
	return cmd
}

// typeAndNames reads TYPE NAME... or TYPE/NAME... . One call is about one type.
func typeAndNames(args []string) (*resource, []string, error) {
	first, _, _ := strings.Cut(args[0], "/")
	kind, err := findResource(first)
	if err != nil {
		return nil, nil, err
	}
	if !strings.Contains(args[0], "/") {
		return kind, args[1:], nil
	}
	var names []string
	for _, arg := range args {
		prefix, name, ok := strings.Cut(arg, "/")
		if other, err := findResource(prefix); !ok || err != nil || other.singular != kind.singular || name == "" {
			return nil, nil, usagef("%q: with TYPE/NAME every argument must be %s/NAME", arg, kind.singular)
		}
		names = append(names, name)
	}
	return kind, names, nil
}

// fetch gives all objects, or those with the names in the order of the names.
func (r *resource) fetch(ctx context.Context, c *client.Client, names []string) ([]any, error) {
	if len(names) == 0 {
		return r.list(ctx, c)
	}
	var all []any
	if r.get == nil {
		var err error
		if all, err = r.list(ctx, c); err != nil {
			return nil, err
		}
	}
	var out []any
	for _, name := range names {
		if r.get != nil {
			item, err := r.get(ctx, c, name)
			if err != nil {
				return nil, err
			}
			out = append(out, item)
			continue
		}
		found := false
		for _, item := range all {
			if r.name(item) == name {
				out, found = append(out, item), true
			}
		}
		if !found {
			return nil, r.missing(name)
		}
	}
	return out, nil
}

func (r *resource) missing(name string) error {
	return &notFoundError{kind: r.singular, name: name, lister: "get " + r.plural}
}
