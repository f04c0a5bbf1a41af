package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// MaxDepth bounds the nesting of a resource's JSON: the deepest policy has about fifteen levels.
const MaxDepth = 100

// DecodeError tells which fields of a body have the wrong type, or are required and missing. Faults is never empty and fits into the error body of
// contract policies.md §1.3.
type DecodeError struct {
	Kind   Kind
	Faults []Violation
}

// Error names the kind, the fields and what is wrong with each.
func (e *DecodeError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = f.Field + " " + f.Reason
	}
	return fmt.Sprintf("decode %s: %s", e.Kind, strings.Join(parts, "; "))
}

// UnknownKindError is returned for a resource whose type is not in the registry.
type UnknownKindError struct{ Kind Kind }

// Error names the type that is not known.
func (e *UnknownKindError) Error() string {
	if e.Kind == "" {
		return `resource has no "type"`
	}
	return fmt.Sprintf("unknown resource type %q", string(e.Kind))
}

// envelope is what surrounds a spec in the universal form.
type envelope struct {
	Type             Kind              `json:"type"`
	Mesh             string            `json:"mesh,omitempty"`
	Name             string            `json:"name"`
	CreationTime     *time.Time        `json:"creationTime,omitempty"`
	ModificationTime *time.Time        `json:"modificationTime,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
}

// nested are the parts of an envelope whose kind is not flat.
type nested struct {
	Spec   json.RawMessage `json:"spec"`
	Status json.RawMessage `json:"status"`
}

// Decode reads the universal form of one resource. Fields that are not known are dropped (contract policies.md §1.3); a
// key given twice, bytes that are no UTF-8 and more than MaxDepth levels are errors, wherever the text comes from.
// The error is a *DecodeError when a field has the wrong type or is missing and an *UnknownKindError when the type is not known. The
// result is not validated, has no Version, and has a mesh only if its kind has one.
func (r *Registry) Decode(data []byte) (*Resource, error) {
	if err := yamljson.CheckJSON(data, MaxDepth); err != nil {
		return nil, fmt.Errorf("decode resource: %w", err)
	}
	var compact bytes.Buffer
	compact.Grow(len(data))
	// Raw parts of specs keep their bytes: without white space equal bodies decode to equal resources.
	if err := json.Compact(&compact, data); err != nil {
		return nil, fmt.Errorf("decode resource: %w", err)
	}
	data = compact.Bytes()
	if data[0] != '{' {
		return nil, errors.New("decode resource: body is not an object")
	}
	var head envelope
	err := unmarshal("", data, &head, "")
	if bad, ok := errors.AsType[*DecodeError](err); ok {
		// Whatever fits is decoded all the same.
		bad.Kind = head.Type
	}
	if err != nil {
		return nil, err
	}
	d := r.byKind[head.Type]
	if d == nil {
		return nil, fmt.Errorf("decode resource: %w", &UnknownKindError{Kind: head.Type})
	}
	res := &Resource{
		Meta: Meta{Key: Key{Kind: head.Type, Mesh: head.Mesh, Name: head.Name}},
		Spec: d.NewSpec(),
	}
	if len(head.Labels) > 0 {
		res.Labels = head.Labels
	}
	if head.CreationTime != nil {
		res.CreationTime = head.CreationTime.UTC()
	}
	if head.ModificationTime != nil {
		res.ModificationTime = head.ModificationTime.UTC()
	}
	if d.Scope == ScopeGlobal {
		res.Mesh = ""
	}
	if d.Flat {
		err = unmarshal(d.Kind, data, res.Spec, "")
	} else {
		var parts nested
		// Cannot fail: the body is an object and both members take any value.
		_ = json.Unmarshal(data, &parts)
		if err = res.decodeParts(d, parts); err == nil && present(parts.Spec) {
			if faults := schemaFaults(parts.Spec, res.Spec); len(faults) > 0 {
				err = &DecodeError{Kind: d.Kind, Faults: faults}
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// decodeParts fills spec and status of a resource from their JSON; absent parts and nulls leave them as they are.
func (r *Resource) decodeParts(d *Descriptor, parts nested) error {
	if present(parts.Spec) {
		if err := unmarshal(d.Kind, parts.Spec, r.Spec, "spec"); err != nil {
			return err
		}
	}
	if d.NewStatus != nil && present(parts.Status) {
		r.Status = d.NewStatus()
		return unmarshal(d.Kind, parts.Status, r.Status, "status")
	}
	return nil
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// unmarshal decodes data and turns a failure into a DecodeError with the places of all faults, which encoding/json does
// not tell. The second look costs only when the first has failed.
func unmarshal(kind Kind, data []byte, into any, root Path) error {
	err := json.Unmarshal(data, into)
	// A null in a list would become a nil pointer where everybody expects a value.
	if err == nil && !bytes.Contains(data, []byte("null")) {
		return nil
	}
	if faults := typeFaults(data, into, root); len(faults) > 0 {
		return &DecodeError{Kind: kind, Faults: faults}
	}
	if err == nil {
		return nil
	}
	return &DecodeError{Kind: kind, Faults: []Violation{{Field: string(root), Reason: err.Error()}}}
}

// DecodeYAML is Decode for one YAML 1.2 document; JSON is YAML too. More documents than one are an error, see SplitYAML.
func (r *Registry) DecodeYAML(data []byte) (*Resource, error) {
	docs := SplitYAML(data)
	if len(docs) != 1 {
		return nil, fmt.Errorf("decode resource: want one YAML document, got %d", len(docs))
	}
	body, err := yamljson.ToJSON(docs[0])
	if err != nil {
		return nil, fmt.Errorf("decode resource: %w", err)
	}
	return r.Decode(body)
}

// SplitYAML cuts a stream at its document markers and leaves out documents that have no content. The results share
// data's memory.
func SplitYAML(data []byte) [][]byte {
	var docs [][]byte
	content, start := false, 0
	flush := func(end int) {
		if content {
			docs = append(docs, data[start:end])
		}
		content = false
	}
	for pos := 0; pos < len(data); {
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := data[pos:end]
		switch {
		case marker(line, "---"):
			flush(pos)
			// What follows the marker on its line belongs to the document: "--- {a: 1}".
			start = pos + len("---")
			content = hasContent(line[len("---"):])
		case marker(line, "..."):
			flush(pos)
			start = end
		default:
			content = content || hasContent(line)
		}
		pos = end
	}
	flush(len(data))
	return docs
}

// marker tells whether line is a document marker, which YAML allows only at its start and followed by white space.
func marker(line []byte, m string) bool {
	return bytes.HasPrefix(line, []byte(m)) && (len(line) == len(m) || strings.IndexByte(" \t\r\n", line[len(m)]) >= 0)
}

func hasContent(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#' && line[0] != '%'
}
