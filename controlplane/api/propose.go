package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxProposals bounds how many resources one request may propose.
const maxProposals = 1000

// Proposal is a resource as a PUT would store it, or as a DELETE would remove it, without either being done.
type Proposal struct {
	// Old is nil for a resource that is not stored, New for one that is to be deleted.
	Old, New *resource.Resource
	// Warnings are those that the PUT would give, but for what Config.Foresee says.
	Warnings []string
}

// Key names the resource.
func (p Proposal) Key() resource.Key {
	if p.New != nil {
		return p.New.Key
	}
	return p.Old.Key
}

// Propose reads the body of a request: a resource in the universal form or a JSON list of them, which may build on each
// other. With ?delete=true they are to be removed, and only type, mesh and name are read. Errors are those that a PUT or
// DELETE of the first bad one would give.
func (r Router) Propose(req *http.Request) ([]Proposal, error) {
	body, err := r.server.body(req, "resource")
	if err != nil {
		return nil, err
	}
	list := []json.RawMessage{body}
	if text := bytes.TrimSpace(body); len(text) > 0 && text[0] == '[' {
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, badBody("resource", err)
		}
	}
	if len(list) == 0 || len(list) > maxProposals {
		return nil, badBody("resource", fmt.Errorf("a list must have 1 to %d resources", maxProposals))
	}
	p := &proposer{server: r.server, req: req, remove: req.URL.Query().Get("delete") == "true", done: map[resource.Key]int{}}
	for i, one := range list {
		if err := p.add(one); err != nil {
			if len(list) > 1 {
				err = inList(err, i)
			}
			return nil, err
		}
	}
	return p.out, nil
}

// inList says which resource of a list an answer is about.
func inList(err error, i int) error {
	e, ok := wrap(titlePut, err).(*Error) //nolint:errorlint // wrap returns its own
	if !ok {
		return err
	}
	out := *e
	out.Detail = fmt.Sprintf("resource %d: %s", i+1, e.Detail)
	return &out
}

// proposer lays what a request proposes over what is stored.
type proposer struct {
	server *Server
	req    *http.Request
	remove bool
	out    []Proposal
	done   map[resource.Key]int // index in out
}

func (p *proposer) add(body []byte) error {
	var head struct{ Type, Mesh, Name string }
	if err := json.Unmarshal(body, &head); err != nil {
		return badBody("resource", err)
	}
	desc := p.server.cfg.Registry.ByKind(resource.Kind(head.Type))
	if desc == nil {
		return badBody("resource", fmt.Errorf("unknown resource type %q", head.Type))
	}
	c := collection{server: p.server, desc: desc}
	if desc.Scope == resource.ScopeMesh && head.Mesh == "" {
		return Invalid(titlePut, notValid, resource.Violation{Field: "mesh", Reason: "cannot be empty"})
	}
	// The body names what the path of a PUT would.
	r := p.req.Clone(p.req.Context())
	r.SetPathValue("name", head.Name)
	if desc.Scope == resource.ScopeMesh {
		if i, ok := p.done[resource.Key{Kind: resource.KindMesh, Name: head.Mesh}]; !ok || p.out[i].New == nil {
			r.SetPathValue("mesh", head.Mesh)
		}
	}
	if err := c.writable(r); err != nil {
		return err
	}
	if desc.Scope == resource.ScopeMesh {
		r.SetPathValue("mesh", head.Mesh)
	}
	stored, err := p.server.cfg.Store.Get(c.key(r))
	if err != nil && !isNotFound(err) {
		return err
	}
	old := stored
	if i, ok := p.done[c.key(r)]; ok {
		old = p.out[i].New
	}
	if p.remove {
		if old == nil {
			return wrap(titleDelete, fmt.Errorf("%s: %w", c.key(r), store.ErrNotFound))
		}
		if faults := c.inUse(old); len(faults) > 0 {
			return Invalid(titleDelete, notValid, faults...)
		}
		texts, err := p.server.strict(p.req, stored, nil)
		if err != nil {
			return err
		}
		p.put(Proposal{Old: stored, Warnings: texts}, c.key(r))
		return nil
	}
	given, err := c.decode(r, resource.FormUniversal, body)
	if err != nil {
		return err
	}
	next, title, err := c.admit(old, given, resource.FormUniversal)
	if err != nil {
		return err
	}
	if p.server.cfg.Check != nil {
		faults, err := p.server.cfg.Check(old, next)
		if err != nil {
			return wrap(title, err)
		}
		if len(faults) > 0 {
			return Invalid(title, notValid, faults...)
		}
	}
	next.Version = math.MaxInt64 + uint64(len(p.out)) // unlike all that is stored
	next.ModificationTime = p.server.cfg.Now()
	next.CreationTime = next.ModificationTime
	if old != nil {
		next.CreationTime = old.CreationTime
	}
	texts, err := p.server.strict(p.req, stored, next)
	if err != nil {
		return err
	}
	p.put(Proposal{Old: stored, New: next, Warnings: append(warningsOf(next), texts...)}, next.Key)
	return nil
}

// put remembers the newest proposal for a key.
func (p *proposer) put(next Proposal, key resource.Key) {
	if i, ok := p.done[key]; ok {
		p.out[i] = next
		return
	}
	p.done[key] = len(p.out)
	p.out = append(p.out, next)
}
