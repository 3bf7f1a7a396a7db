package command

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// completionTime bounds what the shell waits for when a key is pressed.
const completionTime = 2 * time.Second

type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// complete registers the completion of a flag that is known to exist.
func complete(cmd *cobra.Command, flag string, f completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		cobra.CompErrorln(err.Error())
	}
}

func (a *app) completeContexts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, _, err := a.settings()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(s.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

// completeTypeAndNames completes TYPE first and live names after it.
func (a *app) completeTypeAndNames(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return a.completeOf(nil)(cmd, args, toComplete)
}

// completeOf is completeTypeAndNames for the given types only; nil means all.
func (a *app) completeOf(types []string) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return a.names(cmd.Context(), args[0], "", args[1:]), cobra.ShellCompDirectiveNoFileComp
		}
		if kind, _, ok := strings.Cut(toComplete, "/"); ok {
			return a.names(cmd.Context(), kind, kind+"/", nil), cobra.ShellCompDirectiveNoFileComp
		}
		if types != nil {
			return types, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, r := range resources() {
			out = append(out, r.plural)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDeployments completes deployment keys, with or without deployment/.
func (a *app) completeDeployments(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	prefix := ""
	if kind, _, ok := strings.Cut(toComplete, "/"); ok {
		prefix = kind + "/"
	}
	return a.names(cmd.Context(), "deployments", prefix, args), cobra.ShellCompDirectiveNoFileComp
}

// names asks the server for what there is. Without an answer there is nothing to
// complete; the shell is no place for errors.
func (a *app) names(ctx context.Context, kind, prefix string, given []string) []string {
	r, err := findResource(kind)
	if err != nil {
		return nil
	}
	servers, err := a.servers()
	if err != nil {
		return nil
	}
	c, err := client.New(client.Options{Servers: servers, RetryFor: -1})
	if err != nil {
		return nil
	}
	defer c.CloseIdle()
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	items, err := r.list(ctx, c)
	if err != nil {
		return nil
	}
	var out []string
	for _, item := range items {
		if name := r.name(item); !slices.Contains(given, name) {
			out = append(out, prefix+name)
		}
	}
	return out
}
