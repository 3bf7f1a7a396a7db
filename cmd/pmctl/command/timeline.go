package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/api/client"
)

// timelineKey reads the key of a deployment: an argument that is no topic.
func timelineKey(args []string) (string, bool) {
	if len(args) == 2 && args[0] == "deployment" {
		return args[1], true
	}
	if len(args) != 1 {
		return "", false
	}
	if key, ok := strings.CutPrefix(args[0], "deployment/"); ok {
		return key, true
	}
	topic, _, _ := strings.Cut(args[0], ":")
	return args[0], !slices.Contains(topics, topic)
}

// timeline writes what has happened to a deployment and, with follow, goes on until ctx
// ends.
func (a *app) timeline(ctx context.Context, c *client.Client, key, env, format string, follow bool) error {
	seen := map[string]bool{}
	troubled := ""
	for first := true; ; first = false {
		events, err := c.Timeline(ctx, key, env)
		switch {
		case err == nil:
			troubled = ""
			for i := range events {
				if !seen[events[i].ID] {
					if err := a.timelineLine(&events[i], format); err != nil {
						return err
					}
				}
			}
			seen = map[string]bool{} // what is forgotten there need not be remembered here
			for _, e := range events {
				seen[e.ID] = true
			}
		case first && client.IsNotFound(err):
			return &hinted{
				&notFoundError{kind: "deployment", name: key},
				"'pmctl get deployments' lists what there is; topics are " + strings.Join(topics, ", "),
			}
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the time is up, or the user has seen enough
		case client.IsNotFound(err): // it is gone, and so long that nothing of it is remembered
			return err
		case !follow || first && !client.IsUnavailable(err):
			return err
		case err.Error() != troubled:
			troubled = err.Error()
			a.errorf("waiting for a server: %s\n", printable(troubled))
		}
		if !follow {
			return nil
		}
		if a.pause(ctx) != nil {
			return nil //nolint:nilerr // it was ended while it followed
		}
	}
}

func (a *app) timelineLine(e *client.TimelineEvent, format string) error {
	if format != "" && format != eventFormats[0] {
		return a.printLine(format, e)
	}
	when := none
	if e.Time != nil {
		when = e.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	line := fmt.Sprintf("%s  %-18s", when, e.Type)
	for _, part := range nonEmpty(e.Env, e.Reason, e.Message) {
		line += "  " + part
	}
	a.printf("%s\n", printable(strings.TrimRight(line, " ")))
	return nil
}
