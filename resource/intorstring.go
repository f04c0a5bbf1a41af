package resource

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// IntOrString is a number or a string: a port by number or by name, or a decimal fraction in a string. The zero value is
// the number 0.
type IntOrString struct {
	Int uint32
	// Str is used when it is not empty.
	Str string
}

// MarshalJSON writes a number or a string.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if v.Str != "" {
		return marshal(v.Str)
	}
	return strconv.AppendUint(nil, uint64(v.Int), 10), nil
}

// UnmarshalJSON reads a number within uint32 or a string.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		v.Int = 0
		return json.Unmarshal(b, &v.Str)
	}
	var n float64
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("value is neither a number nor a string: %w", err)
	}
	if n < 0 || n > math.MaxUint32 || n != math.Trunc(n) {
		return fmt.Errorf("value %v is not a whole number within uint32", n)
	}
	v.Int, v.Str = uint32(n), ""
	return nil
}

// String returns the name or the decimal number.
func (v IntOrString) String() string {
	if v.Str != "" {
		return v.Str
	}
	return strconv.FormatUint(uint64(v.Int), 10)
}
