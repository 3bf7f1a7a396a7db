package fsm

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"oaas.io/control-plane/proto/pmpb"
)

// Version is the version of the commands that this build writes, and the newest
// one that it applies.
const Version = 1

// maxCommandDepth bounds the nesting of messages in a command.
const maxCommandDepth = 64

// EncodeCommand gives the bytes of a log entry. It sets cmd.Version when it is 0.
func EncodeCommand(cmd *pmpb.Command) ([]byte, error) {
	if cmd == nil {
		return nil, fmt.Errorf("%w: there is none", ErrMalformedCommand)
	}
	if cmd.GetVersion() == 0 {
		cmd.Version = Version
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedCommand, err)
	}
	return data, nil
}

// DecodeCommand is the inverse of EncodeCommand. The error wraps
// ErrMalformedCommand or, for a command that a newer build wrote,
// ErrUnknownCommand.
func DecodeCommand(data []byte) (*pmpb.Command, error) {
	cmd := &pmpb.Command{}
	if err := decoding.Unmarshal(data, cmd); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedCommand, err)
	}
	if v := cmd.GetVersion(); v == 0 || v > Version {
		return nil, fmt.Errorf("%w: version %d, supported is %d", ErrUnknownCommand, v, Version)
	}
	if at := cmd.GetLeaderTime(); at != nil && !at.IsValid() {
		return nil, fmt.Errorf("%w: leader_time is out of range", ErrMalformedCommand)
	}
	if err := checkKnown(cmd); err != nil {
		return nil, err
	}
	return cmd, nil
}

// checkKnown refuses fields that this build does not know in what steers the
// state machine. What it only carries, units' content and runtimes, may hold
// fields of newer clusters; they are kept as they are.
func checkKnown(cmd *pmpb.Command) error {
	op, _ := operation(cmd)
	if op == nil {
		return fmt.Errorf("%w: no known operation", ErrUnknownCommand)
	}
	commit, step := cmd.GetCommitDeployment(), cmd.GetStepRollout()
	steering := []proto.Message{cmd, op, cmd.GetIdempotency(), cmd.GetNote(), commit.GetRevised()}
	for _, g := range cmd.GetGuards() {
		steering = append(steering, g)
	}
	for _, u := range slices.Concat(commit.GetUnits(), step.GetUnits(), cmd.GetStepMove().GetUnits()) {
		steering = append(steering, u)
	}
	for _, r := range []*pmpb.Rollout{commit.GetRollout(), step.GetRollout()} {
		steering = append(steering, r)
		for _, e := range r.GetEnvs() {
			steering = append(steering, e)
		}
	}
	for _, m := range []*pmpb.Move{commit.GetMove(), cmd.GetStepMove().GetMove()} {
		steering = append(steering, partsOf(m)...)
	}
	for _, u := range cmd.GetUpdateUnits().GetUpdates() {
		steering = append(steering, u)
	}
	for _, m := range steering {
		if r := m.ProtoReflect(); r.IsValid() && len(r.GetUnknown()) > 0 {
			return fmt.Errorf("%w: unknown field in %s", ErrUnknownCommand, r.Descriptor().Name())
		}
	}
	return nil
}

// operationName gives the name of a command's operation in pmpb.Command.
func operationName(cmd *pmpb.Command) string {
	m := cmd.ProtoReflect()
	return string(m.WhichOneof(m.Descriptor().Oneofs().ByName("op")).Name())
}

// operation gives the message of a command's oneof and its field number.
func operation(cmd *pmpb.Command) (proto.Message, protoreflect.FieldNumber) {
	m := cmd.ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))
	if fd == nil {
		return nil, 0
	}
	return m.Get(fd).Message().Interface(), fd.Number()
}
