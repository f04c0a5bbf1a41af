package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

const (
	featureEmbeddedDNS   = "feature-embedded-dns"
	featureBindOutbounds = "feature-bind-outbounds"
	// The listeners that serve pages: since Kuma 3, and from 2.10 on.
	pages3  = "system_dynamicconfig"
	pages2x = "_kuma:dynamicconfig"
)

// pageListener is the name of the listener at which the agent asks for what it should do, page by page; empty for agents
// that do not, which are ours and those of Kuma 2.9 (contract dns.md §0). Agents of 2.10 to 2.13 have their choice of
// resolvers, and say so when they ask.
func (m *Meta) pageListener() string {
	if m.Version == nil || m.Version.KumaDp == nil {
		return ""
	}
	switch major, minor, ok := majorMinor(m.Version.KumaDp.Version); {
	case ok && major >= 3:
		return pages3
	case ok && major == 2 && minor >= 10 && m.Has(featureEmbeddedDNS):
		return pages2x
	}
	return ""
}

// paged adds the listener of the pages: the table of names, and what policies tell the agent.
func (w *work) paged() error {
	if !w.env.Paged {
		return nil
	}
	var pages []effect.Page
	for _, e := range w.g.effects {
		if a := w.made.applied[e.Kind]; a != nil {
			pages = append(pages, a.pages...)
		}
	}
	if w.made.names != nil {
		pages = append(pages, *w.made.names)
	}
	if len(pages) == 0 {
		return nil
	}
	w.made.pages = pages
	if w.earlier.sameBasis && slices.EqualFunc(pages, w.earlier.pages, samePage) {
		w.made.paged = w.earlier.paged
	} else {
		l, err := w.b.listener(newPages(w.env, w.in.Meta.pageListener(), pages))
		if err != nil {
			return err
		}
		w.made.paged = &part{effect.OriginDynamicConfig, TypeListener, l}
	}
	w.b.parts = append(w.b.parts, *w.made.paged)
	return nil
}

func samePage(a, b effect.Page) bool { return a.Name == b.Name && bytes.Equal(a.Body, b.Body) }

// newPages is a listener on the agent's socket that answers with the pages, or that one has not changed since (contract
// dns.md §3.2).
func newPages(env effect.Env, name string, pages []effect.Page) *effect.Listener {
	routes := &routev3.RouteConfiguration{}
	host := &routev3.VirtualHost{Name: name, Domains: []string{"*"}}
	routes.VirtualHosts = []*routev3.VirtualHost{host}
	largest := 0
	for _, p := range pages {
		largest = max(largest, len(p.Body))
		sum := sha256.Sum256(p.Body)
		tag := hex.EncodeToString(sum[:])
		known := pageMatch(p)
		known.Headers = []*routev3.HeaderMatcher{{Name: "If-None-Match", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: tag}},
		}}}
		host.Routes = append(host.Routes,
			&routev3.Route{
				Name: name + "_" + p.Name + "_not_modified", Match: known,
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 304}},
			},
			&routev3.Route{
				Name: name + "_" + p.Name, Match: pageMatch(p),
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
					Status: 200, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: string(p.Body)}},
				}},
				ResponseHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "Etag", Value: tag}}},
			})
	}
	routes.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(uint32(largest)) // Envoy's own bound is 4096
	h := &hcmv3.HttpConnectionManager{
		StatPrefix:            effect.StatName(name),
		RouteSpecifier:        &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		InternalAddressConfig: env.LocalAddresses(),
	}
	socket := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: env.SocketPath("kuma-mesh-metric-config")}}}
	return &effect.Listener{
		Listener: &listenerv3.Listener{Name: name, Address: socket},
		Chains: []*effect.Chain{{Filters: []*effect.Filter{{
			Name: effect.FilterHCM, HCM: &effect.HCM{HttpConnectionManager: h, Filters: []*effect.Filter{effect.RouterFilter()}},
		}}}},
	}
}

func pageMatch(p effect.Page) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/" + p.Name}}
}
