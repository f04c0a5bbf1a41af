package inspect

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Bounds for how many proxies, and for how long for the next one, it is found out which policies are to blame, which takes a
// configuration for some of the policies of each.
const (
	maxExamined = 50
	examineFor  = 5 * time.Second
)

// The answers of `_status`. Lists are never null.
type (
	statusBody struct {
		// Connected: all else is unknown without a connection to this control plane.
		Connected bool          `json:"connected"`
		Refusals  []refusalBody `json:"refusals"`
		// Failure says why there is no new configuration; the proxy keeps what it has.
		Failure string `json:"failure,omitempty"`
		// Suspects are the policies without which there would be one.
		Suspects []meta        `json:"suspects"`
		Warnings []warningBody `json:"warnings"`
	}
	// refusalBody are resources that an Envoy does not take; it keeps those that it had, or has none.
	refusalBody struct {
		Type      string    `json:"type"`
		Resources []string  `json:"resources"`
		Reason    string    `json:"reason"`
		Since     time.Time `json:"since"`
		// Policies are those that may be to blame.
		Policies []meta `json:"policies"`
	}
	warningBody struct {
		Message string `json:"message"`
		// Policies are those without which it would not be there.
		Policies []meta `json:"policies"`
	}

	policyStatusBody struct {
		Resource meta `json:"resource"`
		// Total counts the proxies that the policy selects, Connected those of them with a connection to this control plane,
		// and Unexamined those of these where something is wrong and there were too many to find out whether it is because
		// of the policy.
		Total      int `json:"total"`
		Connected  int `json:"connected"`
		Unexamined int `json:"unexamined"`
		// Items are the proxies where something is refused, or cannot be made, because of the policy.
		Items []policyItem `json:"items"`
		// Warnings say what of it has no effect on proxies, or will be refused.
		Warnings []policyWarning `json:"warnings"`
		// Advice is what a PUT warns of, and that the policy is for a route that does not exist.
		Advice []string `json:"advice"`
	}
	policyItem struct {
		Dataplane meta          `json:"dataplane"`
		Refusals  []refusalBody `json:"refusals"`
		Failure   string        `json:"failure,omitempty"`
	}
	policyWarning struct {
		Message string `json:"message"`
		// Dataplanes counts the proxies; on as many as are connected it is without effect everywhere. First is one of them.
		Dataplanes int    `json:"dataplanes"`
		First      string `json:"first"`
	}
)

func (i *Inspector) status(w http.ResponseWriter, req *http.Request) error {
	s, err := i.cfg.Proxies.Blame(req.PathValue("mesh"), req.PathValue("name"), "")
	if err != nil {
		return proxyError(err)
	}
	return api.WriteJSON(w, http.StatusOK, statusOf(s))
}

func (i *Inspector) zoneStatus(kind resource.Kind) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		s, err := i.cfg.Proxies.ZoneStatus(kind, req.PathValue("name"))
		if err != nil {
			return proxyError(err)
		}
		return api.WriteJSON(w, http.StatusOK, statusOf(s))
	}
}

func statusOf(s *xds.Status) *statusBody {
	out := &statusBody{
		Connected: s.Connected, Refusals: refusalsOf(s.Refusals), Failure: s.Failure, Suspects: metas(s.Suspects), Warnings: []warningBody{},
	}
	for _, w := range s.Warnings {
		out.Warnings = append(out.Warnings, warningBody{w.Text, metas(w.Policies)})
	}
	return out
}

func refusalsOf(list []xds.Refusal) []refusalBody {
	out := []refusalBody{}
	for _, r := range list {
		out = append(out, refusalBody{r.Type, r.Resources, r.Reason, r.Since, metas(r.Policies)})
	}
	return out
}

// policyStatus asks how the proxies get on that a policy selects. What a shadow policy would select does not count.
func (i *Inspector) policyStatus(kind policy.Kind) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		p, _, err := i.resource(req, kind.Descriptor.Kind)
		if err != nil {
			return err
		}
		done, err := i.alone(req.Context())
		if err != nil {
			return err
		}
		defer done()
		e := &examination{proxies: i.cfg.Proxies, policy: p, start: time.Now(), known: map[string]bool{}, body: policyStatusBody{
			Resource: metaOf(p.Key, p.Labels), Items: []policyItem{}, Warnings: []policyWarning{}, Advice: append([]string{}, policy.Advice(p)...),
		}}
		set := policy.NewSet(kind, []*resource.Resource{p}, i.cfg.Store.List(i.routes, p.Mesh), nil)
		view := policy.View{Zone: i.cfg.Zone, Gateways: i.cfg.Store.List(resource.KindMeshGateway, p.Mesh)}
		for _, dp := range i.cfg.Store.List(resource.KindDataplane, p.Mesh) {
			if err := req.Context().Err(); err != nil {
				return err
			}
			matched, missing := set.Matched(dp, view)
			for _, text := range missing {
				if !slices.Contains(e.body.Advice, text) {
					e.body.Advice = append(e.body.Advice, text)
				}
			}
			if len(matched) == 0 {
				continue
			}
			if err := e.look(dp); err != nil {
				return err
			}
		}
		return api.WriteJSON(w, http.StatusOK, e.body)
	}
}

// examination is that of the proxies of one policy.
type examination struct {
	proxies  Proxies
	policy   *resource.Resource
	body     policyStatusBody
	start    time.Time
	examined int
	// known tells of the text of a warning whether it is because of the policy.
	known map[string]bool
}

// look asks how one proxy gets on, and only where something is wrong whether it is because of the policy.
func (e *examination) look(dp *resource.Resource) error {
	e.body.Total++
	s, err := e.proxies.Status(dp.Mesh, dp.Name)
	if err != nil {
		return proxyUnknown(err)
	}
	if !s.Connected {
		return nil
	}
	e.body.Connected++
	if len(s.Refusals) > 0 || s.Failure != "" || slices.ContainsFunc(s.Warnings, e.open) {
		if e.examined == maxExamined || time.Since(e.start) > examineFor {
			e.body.Unexamined++
		} else {
			e.examined++
			if s, err = e.proxies.Blame(dp.Mesh, dp.Name, e.policy.Kind); err != nil {
				return proxyUnknown(err)
			}
			e.judge(dp, s)
		}
	}
	for _, w := range s.Warnings {
		if e.known[w.Text] {
			e.warn(w.Text, dp.Name)
		}
	}
	return nil
}

// proxyUnknown lets a Dataplane pass that the topology does not have: it came or went this moment.
func proxyUnknown(err error) error {
	if errors.Is(err, xds.ErrUnknownProxy) {
		return nil
	}
	return err
}

// open tells whether it is not known yet whose a warning is.
func (e *examination) open(w xds.Warning) bool {
	_, known := e.known[w.Text]
	return !known && w.About(e.policy.Kind)
}

func (e *examination) judge(dp *resource.Resource, s *xds.Status) {
	blamed := func(list []*resource.Resource) bool {
		return slices.ContainsFunc(list, func(p *resource.Resource) bool { return p.Key == e.policy.Key })
	}
	item := policyItem{Dataplane: metaOf(dp.Key, dp.Labels)}
	item.Refusals = refusalsOf(slices.DeleteFunc(slices.Clone(s.Refusals), func(r xds.Refusal) bool { return !blamed(r.Policies) }))
	if blamed(s.Suspects) {
		item.Failure = s.Failure
	}
	if len(item.Refusals) > 0 || item.Failure != "" {
		e.body.Items = append(e.body.Items, item)
	}
	for _, w := range s.Warnings {
		if e.open(w) {
			e.known[w.Text] = blamed(w.Policies)
		}
	}
}

func (e *examination) warn(text, proxy string) {
	for n := range e.body.Warnings {
		if w := &e.body.Warnings[n]; w.Message == text {
			w.Dataplanes++
			return
		}
	}
	e.body.Warnings = append(e.body.Warnings, policyWarning{text, 1, proxy})
}
