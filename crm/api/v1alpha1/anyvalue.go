package v1alpha1

import (
	"bytes"
	"errors"
)

// AnyValue is any JSON value, kept as it came.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:pruning:PreserveUnknownFields
type AnyValue struct {
	// Raw is valid JSON; empty stands for null.
	Raw []byte `json:"-"`
}

// MarshalJSON returns the value as it came.
func (v AnyValue) MarshalJSON() ([]byte, error) {
	if len(v.Raw) == 0 {
		return []byte("null"), nil
	}
	return v.Raw, nil
}

// UnmarshalJSON keeps a copy of the value.
func (v *AnyValue) UnmarshalJSON(data []byte) error {
	if v == nil {
		return errors.New("v1alpha1.AnyValue: UnmarshalJSON on a nil pointer")
	}
	if bytes.Equal(data, []byte("null")) {
		v.Raw = nil
		return nil
	}
	v.Raw = append([]byte(nil), data...)
	return nil
}
