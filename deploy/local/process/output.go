package process

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// complaintLines bounds what the error of Output carries.
const complaintLines = 10

// Output runs a short helper program as Run does and returns what it wrote; the error has what it complained about.
func Output(cmd *exec.Cmd) (string, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := Run(cmd); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, LastLines(problems.String(), complaintLines))
	}
	return out.String(), nil
}

// LastLines is the end of a text.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
