// Package effecttest tells whether an Envoy would take what effects make.
package effecttest

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Refusal says why an Envoy would not take a message: for a rule that it breaks, in a typed config too, or, if it is of the
// oldest line that is supported, for a field that it does not know.
func Refusal(m proto.Message) error {
	if err := effect.Validate(m); err != nil {
		return err
	}
	unknown, err := unknownFields(m)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return fmt.Errorf("of Envoy 1.32 unknown is %s, or effecttest/fields.txt lacks the line (see testdata/envoy132/main.go)", strings.Join(unknown, ", "))
	}
	return nil
}

// Check fails the test for a message that an Envoy would not take.
func Check(t testing.TB, m proto.Message) {
	t.Helper()
	if err := Refusal(m); err != nil {
		t.Errorf("%s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
}
