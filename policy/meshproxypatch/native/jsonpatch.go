package native

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
)

const (
	// maxCopied bounds, in bytes, what copies of one modification add: few of them double a resource many times.
	maxCopied = 1 << 20
	// maxIndex bounds indices of lists that an add creates: it fills them up to there.
	maxIndex = 1 << 10
)

// patchJSON runs operations of RFC 6902 on the camelCase JSON of a message, in which typed configs are expanded. Negative
// indices count from the end, removing what is missing is fine, adding creates what is missing on the way (contract
// effects-security.md §10). After an error the message is as it was.
func patchJSON(m proto.Message, ops []meshproxypatch.JSONPatch) error {
	patch, err := operations(ops)
	if err != nil {
		return err
	}
	before, err := protojson.MarshalOptions{Resolver: effect.Types{}}.Marshal(m)
	if err != nil {
		return readable(err)
	}
	after, err := applyPatch(patch, before)
	if err != nil {
		return fmt.Errorf("patch the JSON: %w", err)
	}
	next := m.ProtoReflect().New().Interface()
	if err := (protojson.UnmarshalOptions{Resolver: effect.Types{}}).Unmarshal(after, next); err != nil {
		return fmt.Errorf("read the patched JSON: %w", readable(err))
	}
	proto.Reset(m)
	proto.Merge(m, next)
	return nil
}

// applyPatch keeps the library's panics, on patches such as one that replaces the whole with null, from the other
// modifications.
func applyPatch(patch jsonpatch.Patch, doc []byte) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be applied: %v", r)
		}
	}()
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = true
	options.AllowMissingPathOnRemove = true
	options.EnsurePathExistsOnAdd = true
	options.AccumulatedCopySizeLimit = maxCopied
	return patch.ApplyWithOptions(doc, options)
}

func operations(ops []meshproxypatch.JSONPatch) (jsonpatch.Patch, error) {
	var raw []map[string]any
	for i, op := range ops {
		if err := checkIndices(op); err != nil {
			return nil, fmt.Errorf("jsonPatches[%d]: %w", i, err)
		}
		o := map[string]any{"op": op.Op, "path": op.Path}
		switch op.Op {
		case "move", "copy":
			o["from"] = op.From
		case "add", "replace":
			o["value"] = op.Value // null when there is none
		}
		raw = append(raw, o)
	}
	b, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	return jsonpatch.DecodePatch(b)
}

func checkIndices(op meshproxypatch.JSONPatch) error {
	if op.Op != "add" {
		return nil
	}
	for part := range strings.SplitSeq(op.Path, "/") {
		if n, err := strconv.Atoi(part); err == nil && n > maxIndex {
			return fmt.Errorf("index %d in path %s is larger than %d", n, op.Path, maxIndex)
		}
	}
	return nil
}
