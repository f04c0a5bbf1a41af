package native

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// doubt says why Envoy will refuse a listener that keeps the rules of its fields, "" when nothing is known. Unlike what
// breaks those rules it is handed on, as Kuma does: Envoy has the last word.
func doubt(l *listenerv3.Listener) string {
	if l.ApiListener != nil || l.GetInternalListener() != nil || l.GetAddress().GetSocketAddress().GetProtocol() == corev3.SocketAddress_UDP {
		return ""
	}
	switch {
	case l.Address == nil:
		return "it has no address"
	case len(l.FilterChains) == 0 && l.DefaultFilterChain == nil:
		return "it has no filter chains"
	}
	if text := sameMatch(l); text != "" {
		return text
	}
	for _, c := range l.FilterChains {
		if text := misplaced(c.Filters, terminalNetwork); text != "" {
			return text
		}
		for _, f := range c.Filters {
			h := &hcmv3.HttpConnectionManager{}
			if config := f.GetTypedConfig(); !config.MessageIs(h) || config.UnmarshalTo(h) != nil {
				continue
			}
			if text := misplaced(h.HttpFilters, terminalHTTP); text != "" {
				return text
			}
		}
	}
	return ""
}

// sameMatch looks for two chains for the same connections.
func sameMatch(l *listenerv3.Listener) string {
	if l.FilterChainMatcher != nil {
		return "" // it decides instead
	}
	seen := map[string]int{}
	for i, c := range l.FilterChains {
		match, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.FilterChainMatch)
		if err != nil {
			return err.Error()
		}
		if n, found := seen[string(match)]; found {
			return fmt.Sprintf("filterChains[%d] and filterChains[%d] have the same filterChainMatch", n, i)
		}
		seen[string(match)] = i
	}
	return ""
}

// Filters that nothing may stand behind.
const (
	terminalNetwork = "http_connection_manager.v3.HttpConnectionManager tcp_proxy.v3.TcpProxy echo.v3.Echo direct_response.v3.Config redis_proxy.v3.RedisProxy thrift_proxy.v3.ThriftProxy"
	terminalHTTP    = "router.v3.Router"
)

func misplaced[F filter](list []F, terminal string) string {
	for i, f := range list {
		if i < len(list)-1 && isTerminal(f.GetTypedConfig(), terminal) {
			return fmt.Sprintf("filter %s must be the last of its list", f.GetName())
		}
	}
	return ""
}

func isTerminal(config *anypb.Any, terminal string) bool {
	_, name, _ := strings.Cut(config.GetTypeUrl(), ".filters.")
	_, name, _ = strings.Cut(name, ".") // network or http
	return name != "" && slices.Contains(strings.Fields(terminal), name)
}

// doubts are those about listeners that are in next but not in prev.
func doubts(prev, next []effect.Part) map[string]string {
	before := map[string]*listenerv3.Listener{}
	for _, p := range prev {
		if l, ok := p.Message.(*listenerv3.Listener); ok {
			before[l.Name] = l
		}
	}
	out := map[string]string{}
	for _, p := range next {
		l, ok := p.Message.(*listenerv3.Listener)
		if !ok || before[l.Name] == l {
			continue
		}
		text, old := doubt(l), before[l.Name]
		if text != "" && (old == nil || doubt(old) != text) { // else it was so before
			out[l.Name] = text
		}
	}
	return out
}

// suspicions says which modifications the doubts about what came out are because of.
func (p *Patcher) suspicions(parts, patched []effect.Part, each bool) []string {
	last := doubts(parts, patched)
	if len(last) == 0 {
		return nil
	}
	since := map[string]string{}
	p.run(parts, each, func(modification string, before, after []effect.Part) {
		now := doubts(before, after)
		for name, text := range last {
			if _, known := since[name]; !known && now[name] == text {
				since[name] = modification
			}
		}
	})
	byText := map[string][]string{}
	for name, text := range last {
		of := fmt.Sprintf("%s: Envoy will refuse %%s: %s", since[name], text)
		byText[of] = append(byText[of], name)
	}
	var out []string
	for _, of := range slices.Sorted(maps.Keys(byText)) {
		out = append(out, strings.Replace(of, "%s", listed(byText[of]), 1))
	}
	return out
}

// listed names some listeners.
func listed(names []string) string {
	slices.Sort(names)
	switch n := len(names); {
	case n == 1:
		return "listener " + names[0]
	case n <= 3:
		return "listeners " + strings.Join(names, ", ")
	default:
		return fmt.Sprintf("listeners %s and %d more", strings.Join(names[:2], ", "), n-2)
	}
}
