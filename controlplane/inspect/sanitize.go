package inspect

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// secretFields of a configuration dump hold credentials that Envoy shows: the token that it introduces itself with, in
// the metadata of its control plane, and those of Google's gRPC library. Private keys Envoy leaves out itself.
func secretField(name string) bool {
	switch name {
	case "initial_metadata", "access_token", "google_refresh_token", "json_web_token":
		return true
	}
	return false
}

// sanitize copies a JSON document without credentials, token by token: it holds no more of it in memory than one string.
func sanitize(w io.Writer, r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	dec.UseNumber()
	out := bufio.NewWriterSize(w, 64<<10)
	s := &sanitizer{dec: dec, out: out}
	if err := s.value(0); err != nil {
		return fmt.Errorf("read configuration dump: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read configuration dump: there is more after its end")
	}
	return out.Flush()
}

// maxDepth bounds the nesting of a dump.
const maxDepth = 1000

type sanitizer struct {
	dec *json.Decoder
	out *bufio.Writer
}

// value copies one value. Errors of out stay with it until Flush.
func (s *sanitizer) value(depth int) error {
	t, err := s.dec.Token()
	if err != nil {
		return noEOF(err)
	}
	d, nested := t.(json.Delim)
	if !nested {
		return s.write(t)
	}
	if depth == maxDepth {
		return errors.New("it is nested too deeply")
	}
	_, _ = s.out.WriteRune(rune(d))
	for n := 0; s.dec.More(); n++ {
		if n > 0 {
			_ = s.out.WriteByte(',')
		}
		if d == '{' {
			err = s.field(depth)
		} else {
			err = s.value(depth + 1)
		}
		if err != nil {
			return err
		}
	}
	if t, err = s.dec.Token(); err != nil {
		return noEOF(err)
	}
	_, err = s.out.WriteRune(rune(t.(json.Delim))) // More said that it is one
	return err
}

func (s *sanitizer) field(depth int) error {
	t, err := s.dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if err := s.write(t); err != nil {
		return err
	}
	_ = s.out.WriteByte(':')
	if name, _ := t.(string); !secretField(name) {
		return s.value(depth + 1)
	}
	var dropped json.RawMessage
	if err := s.dec.Decode(&dropped); err != nil {
		return noEOF(err)
	}
	// What takes its place has the type of the field.
	instead := `"[redacted]"`
	if len(dropped) > 0 && dropped[0] == '[' {
		instead = "[]"
	}
	_, err = s.out.WriteString(instead)
	return err
}

func (s *sanitizer) write(t json.Token) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = s.out.Write(b)
	return err
}

// noEOF: an end before the last bracket is no end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
