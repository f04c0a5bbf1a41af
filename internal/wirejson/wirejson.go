// Package wirejson writes messages as indented JSON from their bytes: the text is that of protojson after json.Indent, without
// the Go values and the compact text between. What is rare it leaves to these two.
package wirejson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// Resolver finds the types of messages and extensions. What it has found once it must always find.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

const (
	// maxDepth bounds the nesting of a text that is written here; the library knows what is too deep.
	maxDepth = 64
	// maxURLs bounds the type URLs that are remembered, of which there are as many as people make up hosts.
	maxURLs = 1 << 10
)

// Renderer writes messages in one indentation. It learns how when it meets a type first, and is safe for concurrent use.
type Renderer struct {
	prefix, indent string
	types          Resolver
	// lines is the beginning of a line at the deepest level; those of the others are parts of it.
	lines string
	// byURL is replaced when it changes, so that nobody waits to read it.
	byURL atomic.Pointer[map[string]*message]

	mu     sync.Mutex
	tables map[protoreflect.MessageDescriptor]*message
}

// New returns a Renderer that begins each line but the first with prefix and a copy of indent per level, as json.Indent does.
func New(prefix, indent string, types Resolver) *Renderer {
	r := &Renderer{
		prefix: prefix, indent: indent, types: types,
		lines:  "\n" + prefix + strings.Repeat(indent, maxDepth),
		tables: map[protoreflect.MessageDescriptor]*message{},
	}
	r.byURL.Store(&map[string]*message{})
	return r
}

// Append appends the message that is in a, without its type, to dst. When it fails the result is dst.
func (r *Renderer) Append(dst []byte, a *anypb.Any) ([]byte, error) {
	if m := r.find([]byte(a.GetTypeUrl())); m != nil {
		w := writer{r: r, out: dst}
		if w.message(m, a.GetValue()) {
			return w.out, nil
		}
	}
	out, err := r.byLibrary(dst, a)
	if err != nil {
		return dst, fmt.Errorf("render %s: %w", a.GetTypeUrl(), err)
	}
	return out, nil
}

// byLibrary is Append for what is rare or wrong.
func (r *Renderer) byLibrary(dst []byte, a *anypb.Any) ([]byte, error) {
	m, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{Resolver: r.types})
	if err != nil {
		return nil, err
	}
	b, err := protojson.MarshalOptions{Resolver: r.types}.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(dst)
	err = json.Indent(out, b, r.prefix, r.indent)
	return out.Bytes(), err
}

// find returns the table of the type at a URL; nil when there is no such type.
func (r *Renderer) find(url []byte) *message {
	if m := (*r.byURL.Load())[string(url)]; m != nil {
		return m
	}
	t, err := r.types.FindMessageByURL(string(url))
	if err != nil {
		return nil
	}
	m := r.table(t.Descriptor())
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := *r.byURL.Load(); len(known) < maxURLs {
		known = maps.Clone(known)
		known[string(url)] = m
		r.byURL.Store(&known)
	}
	return m
}

func (r *Renderer) table(d protoreflect.MessageDescriptor) *message {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.tables[d]
	if m == nil {
		m = compile(d)
		r.tables[d] = m
	}
	return m
}
