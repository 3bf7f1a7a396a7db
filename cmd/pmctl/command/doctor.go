package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"oaas.io/control-plane/api/client"
)

// doctorTime bounds the examination of one node.
const doctorTime = 25 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	var format, node string
	var failing bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Examine all nodes: disk, network, clocks, names, quorum, backups", Args: cobra.NoArgs,
		Long: `Have every node examine itself and its way to the others. The exit code is 1 when a
check fails; warnings do not change it. A node that cannot be reached is a failure.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReport(format); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			found, err := a.examine(cmd.Context(), c, node)
			if err != nil {
				return err
			}
			if err := a.show(format, found, func(w io.Writer) error { return showDoctor(w, found, failing) }); err != nil {
				return err
			}
			return verdict(found)
		},
	}
	reportFlag(cmd, &format)
	a.nodeFlag(cmd, &node, "only this node")
	cmd.Flags().BoolVar(&failing, "problems", false, "leave out what is well")
	return cmd
}

// examine asks all nodes, or one, at the same time.
func (a *app) examine(ctx context.Context, c *client.Client, node string) ([]client.Doctor, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	if node != "" {
		found, err := c.Doctor(ctx, node)
		if err != nil {
			return nil, err
		}
		return []client.Doctor{*found}, nil
	}
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Doctor, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			found, err := c.Doctor(ctx, m.ServerID)
			if err != nil {
				found = &client.Doctor{ServerID: m.ServerID, Name: m.Name, Status: client.CheckFail, Checks: []client.Check{{
					Name: "reach", Status: client.CheckFail, Value: err.Error(), Bound: "answers", Advice: "is it running, and can the node that was asked reach it?",
				}}}
			}
			out[i] = *found
		})
	}
	all.Wait()
	return out, nil
}

func showDoctor(w io.Writer, found []client.Doctor, failing bool) error {
	t := table{header: []string{"NODE", "CHECK", "STATUS", "VALUE", "BOUND", "ADVICE"}}
	for _, d := range found {
		for _, c := range d.Checks {
			if !failing || c.Status != client.CheckOK {
				t.add(nodeName(d.Name, d.ServerID), c.Name, c.Status, clip(c.Value, 60), c.Bound, c.Advice)
			}
		}
	}
	if len(t.rows) == 0 {
		_, err := fmt.Fprintf(w, "All is well on %s.\n", counted(len(found), "node"))
		return err
	}
	return t.write(w)
}

// verdict is an error when a check failed.
func verdict(found []client.Doctor) error {
	var failed []string
	for _, d := range found {
		for _, c := range d.Checks {
			if c.Status == client.CheckFail {
				failed = append(failed, nodeName(d.Name, d.ServerID)+": "+c.Name)
			}
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("a check failed: %s", failed[0])
	default:
		return fmt.Errorf("%d checks failed: %s", len(failed), strings.Join(failed, ", "))
	}
}
