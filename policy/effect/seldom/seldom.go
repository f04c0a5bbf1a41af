// Package seldom knows the messages of Envoy that are hardly ever patched, by their descriptions: as Go types they took 6 MB
// of every control plane. Nothing is read before the first is asked for. They have none of the rules that generated types
// check: what Envoy refuses in them, Envoy tells.
package seldom

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

//go:generate go run -tags generate ./generate
//go:embed descriptors.gz
var packed []byte

// types is loaded once.
var types = sync.OnceValues(func() (*dynamicpb.Types, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, err
	}
	files := linkedFirst{&protoregistry.Files{}}
	for _, d := range set.GetFile() {
		if _, err := protoregistry.GlobalFiles.FindFileByPath(d.GetName()); err == nil {
			continue // it is linked after all
		}
		f, err := protodesc.NewFile(d, files)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.GetName(), err)
		}
		if err := files.RegisterFile(f); err != nil {
			return nil, err
		}
	}
	return dynamicpb.NewTypes(files.Files), nil
})

// linkedFirst resolves what the descriptions import.
type linkedFirst struct{ *protoregistry.Files }

func (l linkedFirst) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		return f, nil
	}
	return l.Files.FindFileByPath(path)
}

func (l linkedFirst) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return l.Files.FindDescriptorByName(name)
}

// FindMessageByName returns a message type, linked or described. The error is protoregistry.NotFound when there is none. It
// is safe for concurrent use.
func FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	m, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if !errors.Is(err, protoregistry.NotFound) {
		return m, err
	}
	described, err := types()
	if err != nil {
		return nil, fmt.Errorf("read the descriptions of Envoy's types: %w", err)
	}
	return described.FindMessageByName(name)
}
