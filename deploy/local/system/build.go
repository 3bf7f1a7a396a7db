package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"oaas.io/control-plane/deploy/local"
	"oaas.io/control-plane/deploy/local/process"
)

// Build compiles programs of this source tree (pmd, crm and pmctl if none is named) into dir, as far as they are out of date.
func Build(ctx context.Context, dir string, programs ...string) error {
	if len(programs) == 0 {
		programs = []string{programPM, programCRM, programCLI}
	}
	root, err := local.SourceRoot()
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	if err := os.MkdirAll(absolute, 0o755); err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	args := []string{"build", "-trimpath", "-o", absolute + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, "./cmd/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := process.Run(cmd); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out.String())
	}
	return nil
}
