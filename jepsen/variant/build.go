package variant

import (
	"context"
	"errors"
)

// Build builds the programs of the variant of that name from the module at root, into a
// directory below outDir that it gives. They are pmd and crm, and oaas-chaos if the
// variant concerns the agents inside the harness.
func Build(ctx context.Context, root, outDir, name string) (binDir string, err error) {
	return "", errors.ErrUnsupported
}
