package main

import (
	"errors"
	"fmt"
	"io"

	"oaas.io/control-plane/bench"
)

// publish prints results as a table and stores them as JSON at path, unless that is empty. It fails with err, which is why there
// are not more, and when a figure misses its bound.
func publish(out io.Writer, path string, results []bench.Result, err error) error {
	if len(results) > 0 {
		err = errors.Join(err, bench.WriteTable(out, results))
		if path != "" {
			err = errors.Join(err, bench.WriteJSON(path, results))
		}
	}
	if err != nil {
		return err
	}
	if failed := bench.Failed(results); failed > 0 {
		return fmt.Errorf("%d of %d figures miss their bound", failed, len(results))
	}
	return nil
}
