package yamljson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The core schema (YAML 1.2.2 §10.3.2).
var (
	nulls    = []string{"", "~", "null", "Null", "NULL"}
	booleans = map[string]string{"true": "true", "True": "true", "TRUE": "true", "false": "false", "False": "false", "FALSE": "false"}
	integer  = regexp.MustCompile(`^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	float    = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	noNumber = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
)

// scalar returns a scalar as JSON.
func scalar(n *yaml.Node) (string, error) {
	text := n.Value
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if n.Style&yaml.TaggedStyle == 0 {
		if !plain {
			return quote(text), nil
		}
		return resolve(n)
	}
	// !!binary stays base64, which is what JSON has for bytes.
	switch n.ShortTag() {
	case "!!str", "!!binary":
		return quote(text), nil
	case "!!null", "!!bool", "!!int", "!!float":
		return tagged(n)
	default:
		return "", unknownTag(n)
	}
}

// resolve gives a plain scalar the type that it looks like.
func resolve(n *yaml.Node) (string, error) {
	text := n.Value
	switch {
	case slices.Contains(nulls, text):
		return "null", nil
	case booleans[text] != "":
		return booleans[text], nil
	case integer.MatchString(text):
		return number(text), nil
	case float.MatchString(text):
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return "", &Error{Line: n.Line, Reason: fmt.Sprintf("number %s is too large: quote it if it is a text", text)}
		}
		b, err := json.Marshal(f)
		return string(b), err
	case noNumber.MatchString(text):
		return "", &Error{Line: n.Line, Reason: text + " is no number of JSON: quote it if it is a text"}
	default:
		return quote(text), nil
	}
}

// number writes an integer in decimal, whatever its size.
func number(text string) string {
	base, digits := 10, strings.TrimPrefix(text, "+")
	switch {
	case strings.HasPrefix(text, "0o"):
		base, digits = 8, text[2:]
	case strings.HasPrefix(text, "0x"):
		base, digits = 16, text[2:]
	}
	i, ok := new(big.Int).SetString(digits, base)
	if !ok { // cannot be, the expression has seen to it
		return quote(text)
	}
	return i.String()
}

// tagged resolves a scalar whose tag names a type other than a text, and checks that it is of that type.
func tagged(n *yaml.Node) (string, error) {
	out, err := resolve(n)
	if err != nil {
		return "", err
	}
	_, isBool := booleans[n.Value]
	ok := map[string]bool{
		"!!null": out == "null", "!!bool": isBool,
		"!!int": integer.MatchString(n.Value), "!!float": integer.MatchString(n.Value) || float.MatchString(n.Value),
	}[n.ShortTag()]
	if !ok {
		return "", &Error{Line: n.Line, Reason: fmt.Sprintf("%q is no %s", n.Value, n.ShortTag())}
	}
	return out, nil
}

func quote(text string) string { return encode(text) }

// encode leaves HTML characters alone.
func encode(value any) string {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // what JSON decodes to and strings always can be
	return strings.TrimSuffix(out.String(), "\n")
}

// standard tells whether a collection has no tag of its own.
func standard(n *yaml.Node, tag string) bool {
	return n.Style&yaml.TaggedStyle == 0 || n.ShortTag() == tag
}

func unknownTag(n *yaml.Node) error {
	return &Error{Line: n.Line, Reason: fmt.Sprintf("tag %s is not of the core schema of YAML", n.Tag)}
}
