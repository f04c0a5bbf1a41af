//go:build generate

// Command generate writes the descriptions of the types that it links. Run it with go generate ./policy/effect/seldom after
// another version of go-control-plane.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func write() error {
	var paths []string
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		paths = append(paths, f.Path())
		return true
	})
	slices.Sort(paths)
	set := &descriptorpb.FileDescriptorSet{}
	done := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if done[f.Path()] {
			return
		}
		done[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		d := protodesc.ToFileDescriptorProto(f)
		bare(d.ProtoReflect())
		set.File = append(set.File, d)
	}
	for _, p := range paths {
		if strings.HasPrefix(p, "envoy/") {
			f, err := protoregistry.GlobalFiles.FindFileByPath(p)
			if err != nil {
				return err
			}
			add(f)
		}
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	z.Comment = version()
	if _, err := z.Write(raw); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile("descriptors.gz", packed.Bytes(), 0o644)
}

// bare removes options that are extensions: rules and notes, which reading and writing messages does not need.
func bare(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsExtension():
			m.Clear(fd)
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				bare(v.List().Get(i).Message())
			}
		default:
			bare(v.Message())
		}
		return true
	})
}

// version is the one of the module that has the types.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/envoyproxy/go-control-plane/envoy" {
			return d.Version
		}
	}
	return ""
}
