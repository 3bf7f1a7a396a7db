package variant

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds the programs of the variant of that name from the module at root, into a
// directory below outDir that it gives. They are pmd and crm, and oaas-chaos if the
// variant concerns the agents inside the harness.
func Build(ctx context.Context, root, outDir, name string) (binDir string, err error) {
	v, err := Find(name)
	if err != nil {
		return "", err
	}
	dir, err := filepath.Abs(filepath.Join(outDir, name))
	if err != nil {
		return "", fmt.Errorf("variant: %w", err)
	}
	replaced, err := Overlay(root, dir, name)
	if err != nil {
		return "", err
	}
	binDir = filepath.Join(dir, "bin")
	if err := os.MkdirAll(binDir, 0o755); err != nil {
		return "", fmt.Errorf("variant: %w", err)
	}
	args := []string{"build", "-overlay", replaced, "-o", binDir + string(filepath.Separator)}
	return binDir, runGo(ctx, root, append(args, v.programs()...)...)
}

// programs are the packages of what is built.
func (v Variant) programs() []string {
	out := []string{"./cmd/pmd", "./cmd/crm"}
	if v.Agents {
		out = append(out, "./jepsen/cmd/oaas-chaos")
	}
	return out
}

// runGo runs the go command in the module. Its error has what the command says.
func runGo(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("variant: go %s: %w\n%s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
