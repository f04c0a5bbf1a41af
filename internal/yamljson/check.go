package yamljson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// CheckJSON refuses what is no JSON, with the texts of encoding/json, and what readers may understand in different ways:
// bytes that are no UTF-8, a key that an object has twice, and more levels of nesting than depth, at which some give up.
// Errors are *Error.
func CheckJSON(text []byte, depth int) error {
	if !utf8.Valid(text) {
		return &Error{Reason: "it is not UTF-8"}
	}
	// A stream of tokens would take several values, and says less of what is wrong.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return &Error{Reason: err.Error()}
	}
	return checkKeys(text, depth)
}

// checkKeys looks for keys given twice, which encoding/json lets the last one win, in valid JSON.
func checkKeys(text []byte, depth int) error {
	// The objects and lists around a token.
	type level struct {
		keys map[string]bool // nil in a list
		key  bool            // a key comes next
	}
	var open []level
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &Error{Reason: err.Error()}
		}
		delim, isDelim := token.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open) - 1; n >= 0 && open[n].keys != nil {
			if open[n].key {
				name, _ := token.(string) // a key always is
				if open[n].keys[name] {
					line := bytes.Count(text[:d.InputOffset()], []byte("\n")) + 1
					return &Error{Line: line, Reason: fmt.Sprintf("key %q is given twice", name)}
				}
				open[n].keys[name] = true
			}
			open[n].key = !open[n].key
		}
		switch {
		case !isDelim:
		case len(open) == depth:
			return &Error{Reason: fmt.Sprintf("it is nested deeper than %d levels", depth)}
		case delim == '{':
			open = append(open, level{keys: map[string]bool{}, key: true})
		default:
			open = append(open, level{})
		}
	}
}
