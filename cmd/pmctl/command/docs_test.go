package command

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oaas.io/control-plane/cmd/internal/config/configtest"
)

func TestDocumentationIsComplete(t *testing.T) {
	section := configtest.Section(t, "../../../docs/configuration.md", "pmctl")
	want := func(text string) {
		if !strings.Contains(section, text) {
			t.Errorf("%s is not documented", text)
		}
	}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { want("`--" + f.Name + "`") })
		for _, sub := range cmd.Commands() {
			want(sub.Name())
			visit(sub)
		}
	}
	a := &app{}
	root, _ := a.root()
	visit(root)
	for _, r := range resources() {
		want("`" + r.plural + "`")
	}
}
