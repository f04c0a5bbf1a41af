package inspect

import (
	"net/http"
	"strconv"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer of `policies`, the form before `_rules` (contract controlplane.md Appendix A).
type (
	policiesBody struct {
		Kind  string         `json:"kind"`
		Total int            `json:"total"`
		Items []attachedBody `json:"items"`
	}
	attachedBody struct {
		Type    string                           `json:"type"`
		Matched map[resource.Kind][]attachedMeta `json:"matchedPolicies"`
	}
	attachedMeta struct {
		Type             resource.Kind     `json:"type"`
		Mesh             string            `json:"mesh"`
		Name             string            `json:"name"`
		CreationTime     time.Time         `json:"creationTime"`
		ModificationTime time.Time         `json:"modificationTime"`
		Labels           map[string]string `json:"labels,omitempty"`
	}
	gatewayPoliciesBody struct {
		Kind      string                           `json:"kind"`
		Gateway   keyBody                          `json:"gateway"`
		Listeners []listenerBody                   `json:"listeners"`
		Policies  map[resource.Kind][]attachedMeta `json:"policies"`
	}
	listenerBody struct {
		Port     uint32     `json:"port"`
		Protocol string     `json:"protocol"`
		Hosts    []hostBody `json:"hosts"`
	}
	hostBody struct {
		HostName string `json:"hostName"`
	}
	keyBody struct {
		Mesh string `json:"mesh"`
		Name string `json:"name"`
	}
)

// How the older answers call a sidecar, a builtin gateway, and the attachment of a policy to all of a proxy.
const (
	kindSidecar       = "SidecarDataplane"
	kindGateway       = "MeshGatewayDataplane"
	attachedDataplane = "dataplane"
)

// policies lists the policies of a proxy by kind, from low to high precedence. All of them attach to the Dataplane as a
// whole. A builtin gateway is shown with the listeners of its MeshGateway.
func (i *Inspector) policies(w http.ResponseWriter, req *http.Request) error {
	dp, _, err := i.resource(req, resource.KindDataplane)
	if err != nil {
		return err
	}
	rules, err := i.cfg.Proxies.Rules(dp.Mesh, dp.Name, false)
	if err := rulesError(err); err != nil {
		return err
	}
	matched := map[resource.Kind][]attachedMeta{}
	add := func(p *resource.Resource) {
		matched[p.Kind] = append(matched[p.Kind], attachedMeta{p.Kind, p.Mesh, p.Name, p.CreationTime, p.ModificationTime, p.Labels})
	}
	for _, r := range rules {
		for _, m := range r.Policies {
			add(m.Policy)
		}
	}
	// No fact tells how those from before target references are shown.
	for _, d := range i.older {
		for _, p := range i.cfg.Store.List(d.Kind, dp.Mesh) {
			if older.Matches(p, dp, i.cfg.Zone) {
				add(p)
			}
		}
	}
	if gateway := policy.GatewayOf(dp, i.cfg.Store.List(resource.KindMeshGateway, dp.Mesh)); gateway != nil {
		return api.WriteJSON(w, http.StatusOK, gatewayPoliciesBody{
			Kind: kindGateway, Gateway: keyBody{gateway.Mesh, gateway.Name}, Policies: matched,
			Listeners: listeners(resource.SpecOf[*resource.MeshGateway](gateway)),
		})
	}
	body := policiesBody{Kind: kindSidecar, Items: []attachedBody{}}
	if len(matched) > 0 {
		body.Items, body.Total = append(body.Items, attachedBody{attachedDataplane, matched}), 1
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

// listeners gives each port its hosts.
func listeners(gateway *resource.MeshGateway) []listenerBody {
	out := []listenerBody{}
	at := map[uint32]int{}
	for _, l := range gateway.Conf.Listeners {
		n, ok := at[l.Port]
		if !ok {
			n = len(out)
			at[l.Port] = n
			out = append(out, listenerBody{Port: l.Port, Protocol: l.Protocol})
		}
		host := l.Hostname
		if host == "" {
			host = "*"
		}
		out[n].Hosts = append(out[n].Hosts, hostBody{host})
	}
	return out
}

// The answer of `rules`: one item for each rule by client, by destination tags or of the proxy.
type (
	olderRulesBody struct {
		Total int         `json:"total"`
		Items []olderRule `json:"items"`
	}
	olderRule struct {
		// Type is ClientSubset, DestinationSubset or SingleItem.
		Type string `json:"type"`
		// Name is the address of the inbound, the destination or "dataplane".
		Name       string            `json:"name"`
		Service    string            `json:"service"`
		Tags       map[string]string `json:"tags,omitempty"`
		PolicyType resource.Kind     `json:"policyType"`
		// Subset has the value of each tag, with "!" before one that is excluded.
		Subset  map[string]string `json:"subset"`
		Conf    any               `json:"conf"`
		Origins []keyBody         `json:"origins"`
	}
)

// olderRules lists the rules in the form before `_rules`, which has no rules for real services.
func (i *Inspector) olderRules(w http.ResponseWriter, req *http.Request) error {
	dp, mesh, err := i.resource(req, resource.KindDataplane)
	if err != nil {
		return err
	}
	rules, err := i.cfg.Proxies.Rules(dp.Mesh, dp.Name, false)
	if err := rulesError(err); err != nil {
		return err
	}
	body := olderRulesBody{Items: []olderRule{}}
	add := func(item olderRule, rules []policy.SubsetRule) {
		for _, r := range rules {
			item.Subset, item.Conf, item.Origins = subset(r.Matchers), r.Conf, origins(r.Origin)
			body.Items = append(body.Items, item)
		}
	}
	address := ""
	if n := resource.SpecOf[*resource.Dataplane](dp).Networking; n != nil {
		address = n.Address
	}
	for _, r := range rules {
		for _, f := range r.From {
			at := address
			if f.Inbound.Address != "" {
				at = f.Inbound.Address
			}
			add(olderRule{
				Type: "ClientSubset", PolicyType: r.Kind, Tags: f.Inbound.Tags, Service: f.Inbound.Tags[resource.TagService],
				Name: at + ":" + strconv.FormatUint(uint64(f.Inbound.Port), 10),
			}, f.Rules)
		}
		if mesh.ServicesMode() != resource.MeshServicesExclusive {
			for _, to := range r.To {
				service := subset(to.Matchers)[resource.TagService]
				add(olderRule{Type: "DestinationSubset", PolicyType: r.Kind, Name: service, Service: service}, []policy.SubsetRule{to})
			}
		}
		if s := r.Single; s != nil {
			add(olderRule{Type: "SingleItem", PolicyType: r.Kind, Name: "dataplane"}, []policy.SubsetRule{{Conf: s.Conf, Origin: s.Origin}})
		}
	}
	body.Total = len(body.Items)
	return api.WriteJSON(w, http.StatusOK, body)
}

func subset(ms []policy.Matcher) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		value := m.Value
		if m.Not {
			value = "!" + value
		}
		if old, ok := out[m.Key]; ok {
			value = old + "," + value
		}
		out[m.Key] = value
	}
	return out
}

func origins(list []*resource.Resource) []keyBody {
	out := make([]keyBody, len(list))
	for i, r := range list {
		out[i] = keyBody{r.Mesh, r.Name}
	}
	return out
}
