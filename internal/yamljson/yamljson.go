// Package yamljson reads YAML 1.2 into JSON. It is the one place where YAML that people write is read: in YAML 1.1, which
// the common libraries speak, a bare y, n, on, off, yes or no is a boolean, so that a label or a match with such a value
// would silently change.
package yamljson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Error tells what is wrong with a text and where.
type Error struct {
	// Line counts from 1; 0 means that it is not known.
	Line   int
	Reason string
}

// Error is "line 3: reason".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// Limits of one document, far above what people write.
const (
	// maxDepth also ends an alias that holds itself.
	maxDepth = 1000
	// maxCopies bounds the nodes that aliases add, which grow exponentially when aliases hold aliases.
	maxCopies = 100_000
)

// ToJSON reads one document with the core schema of YAML 1.2, which JSON is a subset of, and returns it as compact JSON
// with sorted keys; an empty text is null. Integers keep all their digits. A key given twice, a second document and a tag outside the core
// schema are errors; merge keys (<<) are followed. Errors are *Error.
func ToJSON(text []byte) ([]byte, error) {
	if json.Valid(text) {
		return fromJSON(text)
	}
	var document, more yaml.Node
	// The parser knows this version but refuses its name.
	d := yaml.NewDecoder(bytes.NewReader(directive.ReplaceAll(text, []byte("${1}%YAML 1.1"))))
	err := d.Decode(&document)
	if errors.Is(err, io.EOF) {
		return []byte("null"), nil
	}
	if err != nil {
		return nil, parserError(err)
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, parserError(err)
		}
		return nil, &Error{Line: more.Content[0].Line, Reason: "a second document begins where one is wanted"}
	}
	w := writer{}
	if err := w.value(&document, 0); err != nil {
		return nil, err
	}
	return w.out.Bytes(), nil
}

// Unmarshal is ToJSON and then json.Unmarshal.
func Unmarshal(text []byte, into any) error {
	b, err := ToJSON(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// UnmarshalStrict is Unmarshal that refuses fields which into has not.
func UnmarshalStrict(text []byte, into any) error {
	b, err := ToJSON(text)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// directive is at the head of a text, after comments.
var directive = regexp.MustCompile(`\A((?:[ \t]*(?:#.*)?\r?\n)*)%YAML 1\.2\b`)

var parserText = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parserError takes the line out of a text of the parser.
func parserError(err error) error {
	m := parserText.FindStringSubmatch(err.Error())
	if m == nil {
		return &Error{Reason: err.Error()}
	}
	line, _ := strconv.Atoi(m[1]) // nothing means not known
	return &Error{Line: line, Reason: m[2]}
}

// fromJSON sorts the keys of valid JSON.
func fromJSON(text []byte) ([]byte, error) {
	if err := checkKeys(text, maxDepth); err != nil {
		return nil, err
	}
	var value any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, &Error{Reason: err.Error()}
	}
	return []byte(encode(value)), nil
}
