package inspect

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/crew"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer of `_preview`. Lists are never null.
type (
	previewBody struct {
		// Resources are those of the request, in their order.
		Resources []previewResource `json:"resources"`
		// Proxies are those that would change.
		Proxies []previewProxy `json:"proxies"`
		// ZoneProxies are the ingresses and egresses that would get another configuration.
		ZoneProxies []string `json:"zoneProxies"`
	}
	previewResource struct {
		Type resource.Kind `json:"type"`
		Mesh string        `json:"mesh,omitempty"`
		Name string        `json:"name"`
		// Action is create, update, delete, or none for what is stored already.
		Action string `json:"action"`
		// Matched counts the proxies that a policy applies to.
		Matched    int               `json:"matched"`
		Shadows    []previewOverride `json:"shadows"`
		ShadowedBy []previewOverride `json:"shadowedBy"`
		Warnings   []string          `json:"warnings"`
	}
	previewOverride struct {
		Mesh string `json:"mesh"`
		Name string `json:"name"`
		// Fields name what the other policy, or this one, says in vain, and Whole that it is all of it.
		Fields  []string `json:"fields"`
		Whole   bool     `json:"whole"`
		Proxies int      `json:"proxies"`
	}
	previewProxy struct {
		Mesh  string         `json:"mesh"`
		Name  string         `json:"name"`
		Rules []previewRules `json:"rules"`
		// Diff changes the object xds of `_config`: what goes is tested first.
		Diff     []Operation `json:"diff"`
		Warnings []string    `json:"warnings"`
		// Error says why there would be no new configuration; the proxy would keep what it has.
		Error string `json:"error,omitempty"`
	}
	previewRules struct {
		Type   resource.Kind `json:"type"`
		Before *kindRules    `json:"before"`
		After  *kindRules    `json:"after"`
	}
)

func (i *Inspector) previewRoute(r api.Router) {
	r.Handle("POST /_preview", func(w http.ResponseWriter, req *http.Request) error {
		if err := r.Access.ViewConfigDump.Check(api.UserOf(req.Context()), "config dump"); err != nil {
			return err
		}
		proposals, err := r.Propose(req) //nolint:contextcheck // it has the request
		if err != nil {
			return err
		}
		done, err := i.alone(req.Context())
		if err != nil {
			return err
		}
		defer done()
		body, err := i.preview(proposals)
		if err != nil {
			return err
		}
		return body.write(w)
	}, api.Doc{
		Summary: "What resources would change, without storing them: one of them or a list. With delete=true, what their removal would",
		Tag:     tag, Query: []string{"delete"}, Request: api.AnyOf{map[string]any{}, []map[string]any{}}, Response: previewBody{},
	})
}

// preview runs what serves on a picture of its own.
func (i *Inspector) preview(proposals []api.Proposal) (*previewBody, error) {
	stored, watcher := i.cfg.Watch()
	watcher.Close()
	body := &previewBody{Resources: []previewResource{}, Proxies: []previewProxy{}, ZoneProxies: []string{}}
	byKey := make(map[resource.Key]*resource.Resource, len(stored))
	for _, r := range stored {
		byKey[r.Key] = r
	}
	var events []store.Event
	next := maps.Clone(byKey)
	for _, p := range proposals {
		next[p.Key()] = p.New
		one := previewResource{
			Type: p.Key().Kind, Mesh: p.Key().Mesh, Name: p.Key().Name, Action: "none",
			Shadows: []previewOverride{}, ShadowedBy: []previewOverride{}, Warnings: append([]string{}, p.Warnings...),
		}
		if ev, ok := eventOf(byKey[p.Key()], p.New); ok {
			one.Action = string(ev.Action)
			events = append(events, ev)
		}
		body.Resources = append(body.Resources, one)
	}
	before, change := topology.Preview(i.cfg.Zone, stored, events)
	found := i.cfg.Proxies.Preview(before, change)
	body.ZoneProxies = append(body.ZoneProxies, found.ZoneProxies...)
	for n := range body.Resources {
		body.Resources[n].policies(found)
	}
	c, err := compareAll(found.Proxies)
	if err != nil {
		return nil, err
	}
	was, will := labelsIn(byKey), labelsIn(next)
	proxies := make([]previewProxy, len(found.Proxies))
	err = crew.Each(len(proxies), func(n int) (err error) {
		proxies[n], err = i.previewOf(found.Proxies[n], c, was, will)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, one := range proxies {
		if len(one.Rules) > 0 || len(one.Diff) > 0 || one.Error != "" {
			body.Proxies = append(body.Proxies, one)
		}
	}
	return body, nil
}

// eventOf is what a store would tell; false for what changes nothing.
func eventOf(old, next *resource.Resource) (store.Event, bool) {
	ev := store.Event{Revision: math.MaxInt64, Old: old, New: next}
	switch {
	case old == nil && next == nil:
		return ev, false
	case old == nil:
		ev.Action = store.Create
	case next == nil:
		ev.Action = store.Delete
	default:
		ev.Action = store.Update
		return ev, !sameContent(old, next)
	}
	return ev, true
}

func sameContent(a, b *resource.Resource) bool {
	return reflect.DeepEqual(a.Labels, b.Labels) && reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Status, b.Status)
}

func (p *previewResource) policies(found *xds.Preview) {
	key := resource.Key{Kind: p.Type, Mesh: p.Mesh, Name: p.Name}
	p.Matched = found.Matched[key]
	for _, o := range found.Overridden {
		one := previewOverride{Fields: o.Fields, Whole: o.Whole, Proxies: o.Proxies}
		switch key {
		case o.By:
			one.Mesh, one.Name = o.Of.Mesh, o.Of.Name
			p.Shadows = append(p.Shadows, one)
		case o.Of:
			one.Mesh, one.Name = o.By.Mesh, o.By.Name
			p.ShadowedBy = append(p.ShadowedBy, one)
		}
	}
}

// labelsIn looks up the labels of what targets of rules are.
func labelsIn(resources map[resource.Key]*resource.Resource) func(resource.Key) map[string]string {
	return func(key resource.Key) map[string]string {
		if r := resources[key]; r != nil {
			return r.Labels
		}
		return nil
	}
}

func (i *Inspector) previewOf(p xds.ProxyPreview, c *comparison, before, after func(resource.Key) map[string]string) (previewProxy, error) {
	out := previewProxy{Mesh: p.Mesh, Name: p.Name, Rules: []previewRules{}, Diff: []Operation{}, Warnings: append([]string{}, p.Warnings...)}
	show := func(r *policy.Rules, byTags bool, labels func(resource.Key) map[string]string) *kindRules {
		if r == nil {
			return nil
		}
		one, ok := i.kind(r, byTags, labels)
		if !ok && len(one.ToResourceRules) == 0 {
			return nil
		}
		return &one
	}
	for _, c := range p.Rules {
		one := previewRules{Before: show(c.Before, p.ByTagsBefore, before), After: show(c.After, p.ByTags, after)}
		a, errA := json.Marshal(one.Before)
		b, errB := json.Marshal(one.After)
		if err := errors.Join(errA, errB); err != nil {
			return out, err
		}
		if slices.Equal(a, b) {
			continue
		}
		if c.Before != nil {
			one.Type = c.Before.Kind
		} else {
			one.Type = c.After.Kind
		}
		out.Rules = append(out.Rules, one)
	}
	if p.Err != nil {
		out.Error = p.Err.Error()
		return out, nil //nolint:nilerr // it is told in the answer
	}
	out.Diff = c.diff(p.Before, p.After)
	return out, nil
}
