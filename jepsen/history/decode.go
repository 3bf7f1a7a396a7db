package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// As gives an input or output as a T: of a history that was recorded here it is one, in a
// history that was read from a file it is what JSON made of it. Nil gives the zero value.
func As[T any](v any) (T, error) {
	var out T
	switch have := v.(type) {
	case nil:
		return out, nil
	case T:
		return have, nil
	case *T:
		return *have, nil
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return out, fmt.Errorf("history: %w", err)
		}
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("history: %T is no %T: %w", v, out, err)
	}
	return out, nil
}

// ReadFrom reads what History.Write has written. Inputs and outputs are json.RawMessage.
func ReadFrom(r io.Reader) (History, error) {
	var h History
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var line struct {
			Operation *rawOperation `json:"operation"`
			Event     *Event        `json:"event"`
		}
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil {
			return h, fmt.Errorf("history: line %d: %w", len(h.Operations)+len(h.Events)+1, err)
		}
		if line.Event != nil {
			h.Events = append(h.Events, *line.Event)
		}
		if line.Operation != nil {
			op := line.Operation.Operation
			if line.Operation.Input != nil {
				op.Input = line.Operation.Input
			}
			if line.Operation.Output != nil {
				op.Output = line.Operation.Output
			}
			h.Operations = append(h.Operations, op)
		}
	}
}

// rawOperation keeps what it does not know the type of.
type rawOperation struct {
	Operation
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output"`
}
