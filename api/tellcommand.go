package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"oaas.io/control-plane/proto/pmpb"
)

// tellCommand gives a command's kind and its contents as JSON, for people who
// look into the log. Users may keep secrets in the configuration of functions,
// and idempotency keys are a client's own: values of maps, documents and keys are
// told by their length, not their content.
func tellCommand(cmd *pmpb.Command) (op string, doc json.RawMessage) {
	m := cmd.ProtoReflect()
	if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("op")); field != nil {
		op = string(field.Name())
	}
	raw, err := json.Marshal(tell(m))
	if err != nil { // texts and numbers only: cannot fail
		return op, nil
	}
	return op, raw
}

// shortBytes is the length up to which bytes are identifiers and hashes rather
// than contents.
const shortBytes = sha256.Size

func tell(m protoreflect.Message) any {
	switch known := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return zulu(known.AsTime())
	case *durationpb.Duration:
		return known.AsDuration().String()
	case *pmpb.Idempotency:
		return map[string]any{"key": veiled(len(known.GetKey())), "request_hash": hex.EncodeToString(known.GetRequestHash()),
			"status": known.GetStatus(), "body": veiled(len(known.GetBody()))}
	}
	out := map[string]any{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, value protoreflect.Value) bool {
				entries[k.String()] = tellValue(f.MapValue(), value, true)
				return true
			})
			out[string(f.Name())] = entries
		case f.IsList():
			items := make([]any, v.List().Len())
			for i := range items {
				items[i] = tellValue(f, v.List().Get(i), false)
			}
			out[string(f.Name())] = items
		default:
			out[string(f.Name())] = tellValue(f, v, false)
		}
		return true
	})
	return out
}

// tellValue tells one value. Texts are veiled when secret is set.
func tellValue(f protoreflect.FieldDescriptor, v protoreflect.Value, secret bool) any {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return tell(v.Message())
	case protoreflect.EnumKind:
		if name := f.Enum().Values().ByNumber(v.Enum()); name != nil {
			return string(name.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.BytesKind:
		data := v.Bytes()
		if len(data) <= shortBytes {
			return hex.EncodeToString(data)
		}
		sum := sha256.Sum256(data)
		return veiled(len(data)) + " sha256 " + hex.EncodeToString(sum[:8])
	case protoreflect.StringKind:
		if secret {
			return veiled(len(v.String()))
		}
		return clipText(v.String())
	default:
		return v.Interface()
	}
}

func veiled(n int) string { return fmt.Sprintf("<%d bytes>", n) }
