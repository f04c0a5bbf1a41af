// Package native knows the Envoy resources that a MeshProxyPatch can hold. It stands apart because it brings along every
// type of Envoy: only who makes configuration, or has to tell in advance whether Envoy will take it, needs that.
package native

import (
	"errors"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Decode reads a JSON object as the Envoy resource of a target, one of the fields of a modification: "cluster",
// "listener", "networkFilter", "httpFilter", "virtualHost". Field names may be written in both of protobuf's ways; a field
// that Envoy does not have is an error, and so is a typedConfig of a type that this program does not know.
func Decode(target string, object []byte) (proto.Message, error) {
	message, err := empty(target)
	if err != nil {
		return nil, err
	}
	if err := (protojson.UnmarshalOptions{Resolver: effect.Types{}}).Unmarshal(object, message); err != nil {
		return nil, readable(err)
	}
	return message, nil
}

// Check is meshproxypatch.Native: it decodes the object, and of a whole resource checks the rules that Envoy itself
// would, so that a fault is told to its author instead of stopping every configuration of the proxies it concerns.
func Check(target string, object []byte, whole bool) error {
	message, err := Decode(target, object)
	if err != nil || !whole {
		return err
	}
	if v, ok := message.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func empty(target string) (proto.Message, error) {
	switch target {
	case "cluster":
		return &clusterv3.Cluster{}, nil
	case "listener":
		return &listenerv3.Listener{}, nil
	case "networkFilter":
		return &listenerv3.Filter{}, nil
	case "httpFilter":
		return &hcmv3.HttpFilter{}, nil
	case "virtualHost":
		return &routev3.VirtualHost{}, nil
	default:
		return nil, fmt.Errorf("no Envoy resource is called %q", target)
	}
}

// readable removes what protobuf adds to its texts: a space that is sometimes another character, so that nobody relies on
// them, and positions, which are of JSON that the user did not write. The same mistake is always told in the same words.
func readable(err error) error {
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
	for {
		before, after, ok := strings.Cut(text, "(line ")
		if !ok {
			return errors.New(text)
		}
		_, after, _ = strings.Cut(after, ")")
		if before = strings.TrimSuffix(before, " "); before == "" {
			after = strings.TrimPrefix(after, ": ")
		}
		text = before + after
	}
}
