package native

import (
	"errors"
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
)

// change is one operation with its value read.
type change struct {
	*meshproxypatch.Change
	// value is nil for an operation that has none. err says that it cannot be read.
	value proto.Message
	err   error
}

func newChange(target string, c *meshproxypatch.Change) *change {
	out := &change{Change: c}
	if c.Value == nil || c.Operation == meshproxypatch.OpRemove {
		return out
	}
	object, err := meshproxypatch.ValueJSON(*c.Value)
	if err == nil {
		out.value, err = Decode(target, object)
	}
	if err != nil {
		out.err = fmt.Errorf("read value: %w", err)
	}
	return out
}

// added returns the value to add, a new copy each time.
func (c *change) added() (proto.Message, error) {
	switch {
	case c.err != nil:
		return nil, c.err
	case c.value == nil:
		return nil, errors.New("there is no value to add")
	}
	return proto.Clone(c.value), nil
}

// edit patches a message in place.
func (c *change) edit(m proto.Message) error {
	switch {
	case len(c.JSONPatches) > 0:
		return patchJSON(m, c.JSONPatches)
	case c.err != nil:
		return c.err
	case c.value == nil:
		return errors.New("there is neither a value nor a JSON patch")
	}
	merge(m.ProtoReflect(), c.value.ProtoReflect())
	return nil
}

// editConfig patches the typed config of a filter in place; all else of a filter stays.
func (c *change) editConfig(config *anypb.Any) error {
	switch {
	case config == nil:
		return errors.New("it has no typedConfig")
	case len(c.JSONPatches) > 0:
		return editTyped(config, func(m proto.Message) error { return patchJSON(m, c.JSONPatches) })
	case c.err != nil:
		return c.err
	}
	value, ok := c.value.(configured)
	if !ok {
		return errors.New("there is neither a value nor a JSON patch")
	}
	return mergeTyped(config, value.GetTypedConfig())
}

// resources changes whole clusters or listeners. What is added takes the place of its namesake; what is removed leaves a
// part without a message.
func (c *change) resources(parts []effect.Part, matches func(effect.Part) bool) ([]effect.Part, error) {
	out := slices.Clone(parts)
	switch c.Operation {
	case meshproxypatch.OpAdd:
		m, err := c.added()
		if err != nil {
			return nil, err
		}
		remove(out, func(p effect.Part) bool { return p.Message != nil && idOf(p.Message) == idOf(m) })
		return append(out, effect.Part{Origin: effect.OriginProxyPatch, Message: m}), nil
	case meshproxypatch.OpRemove:
		remove(out, matches)
		return out, nil
	case meshproxypatch.OpPatch:
		for i, p := range out {
			if !matches(p) {
				continue
			}
			m := proto.Clone(p.Message)
			if err := c.edit(m); err != nil {
				return nil, fmt.Errorf("%s: %w", idOf(m), err)
			}
			out[i].Message = m
		}
		return out, nil
	}
	return nil, c.unknown()
}

func remove(parts []effect.Part, which func(effect.Part) bool) {
	for i := range parts {
		if which(parts[i]) {
			parts[i].Message = nil
		}
	}
}

func (c *change) unknown() error { return fmt.Errorf("operation %q is not known", c.Operation) }

func (c *change) networkFilters(l *listenerv3.Listener, name string) error {
	for _, chain := range l.FilterChains {
		next, err := changeFilters(c, chain.Filters, name)
		if err != nil {
			return err
		}
		chain.Filters = next
	}
	return nil
}

func (c *change) httpFilters(l *listenerv3.Listener, name string) error {
	return managers(l, func(h *hcmv3.HttpConnectionManager) error {
		next, err := changeFilters(c, h.HttpFilters, name)
		h.HttpFilters = next
		return err
	})
}

// managers runs edit on every HTTP connection manager.
func managers(l *listenerv3.Listener, edit func(*hcmv3.HttpConnectionManager) error) error {
	for _, chain := range l.FilterChains {
		for _, f := range chain.Filters {
			if f.Name != effect.FilterHCM {
				continue
			}
			if f.GetTypedConfig() == nil {
				return fmt.Errorf("filter %s has no typedConfig", f.Name)
			}
			err := editTyped(f.GetTypedConfig(), func(m proto.Message) error {
				h, ok := m.(*hcmv3.HttpConnectionManager)
				if !ok {
					return fmt.Errorf("filter %s is of type %s", f.Name, m.ProtoReflect().Descriptor().FullName())
				}
				return edit(h)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

type configured interface {
	GetTypedConfig() *anypb.Any
}

// filter is a network or HTTP filter.
type filter interface {
	proto.Message
	configured
	GetName() string
}

// changeFilters changes one list of filters. Before and after a filter that is missing nothing is added.
func changeFilters[F filter](c *change, list []F, name string) ([]F, error) {
	named := func(f F) bool { return wants(name, f.GetName()) }
	switch c.Operation {
	case meshproxypatch.OpRemove:
		return slices.DeleteFunc(list, named), nil
	case meshproxypatch.OpPatch:
		for _, f := range list {
			if !named(f) {
				continue
			}
			if err := c.editConfig(f.GetTypedConfig()); err != nil {
				return nil, fmt.Errorf("filter %s: %w", f.GetName(), err)
			}
		}
		return list, nil
	}
	m, err := c.added()
	if err != nil {
		return nil, err
	}
	added, ok := m.(F)
	if !ok {
		return nil, fmt.Errorf("the value is of type %T", m)
	}
	at := 0
	switch c.Operation {
	case meshproxypatch.OpAddFirst:
	case meshproxypatch.OpAddLast:
		at = len(list)
	case meshproxypatch.OpAddBefore, meshproxypatch.OpAddAfter:
		if at = slices.IndexFunc(list, named); at < 0 {
			return list, nil
		}
		if c.Operation == meshproxypatch.OpAddAfter {
			at++
		}
	default:
		return nil, c.unknown()
	}
	return slices.Insert(list, at, added), nil
}

func (c *change) virtualHosts(l *listenerv3.Listener, match *meshproxypatch.VirtualHostMatch) error {
	return managers(l, func(h *hcmv3.HttpConnectionManager) error {
		routes := h.GetRouteConfig()
		if routes == nil || !wants(match.RouteConfigurationName, routes.Name) {
			return nil
		}
		named := func(v *routev3.VirtualHost) bool { return wants(match.Name, v.Name) }
		switch c.Operation {
		case meshproxypatch.OpAdd:
			m, err := c.added()
			if err != nil {
				return err
			}
			v, ok := m.(*routev3.VirtualHost)
			if !ok {
				return fmt.Errorf("the value is of type %T", m)
			}
			routes.VirtualHosts = append(routes.VirtualHosts, v)
		case meshproxypatch.OpRemove:
			routes.VirtualHosts = slices.DeleteFunc(routes.VirtualHosts, named)
		case meshproxypatch.OpPatch:
			for _, v := range routes.VirtualHosts {
				if !named(v) {
					continue
				}
				if err := c.edit(v); err != nil {
					return fmt.Errorf("virtual host %s: %w", v.Name, err)
				}
			}
		default:
			return c.unknown()
		}
		return nil
	})
}
