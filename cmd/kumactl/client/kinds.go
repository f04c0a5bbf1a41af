package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Kind is one that the control plane serves. kumactl knows none by itself, so it works with any control plane.
type Kind struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Scope    string `json:"scope"`
	ReadOnly bool   `json:"readOnly"`
	Singular string `json:"singularDisplayName"`
	Plural   string `json:"pluralDisplayName"`
	// Federation tells that a zone's resources of this kind move to the global control plane when the zone is federated.
	Federation bool `json:"includeInFederation"`
	// Policy is nil for kinds that are no policies.
	Policy *struct {
		TargetRef bool `json:"isTargetRef"`
	} `json:"policy"`
}

// Kinds are all of a control plane.
type Kinds []Kind

// Kinds asks for them.
func (c *Client) Kinds(ctx context.Context) (Kinds, error) {
	b, err := c.Do(ctx, http.MethodGet, []string{"_resources"}, nil, nil)
	if err != nil {
		return nil, err
	}
	var out struct {
		Resources Kinds `json:"resources"`
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("read the kinds of the control plane: %w", err)
	}
	return out.Resources, nil
}

// ByType returns the kind of a resource's `type`.
func (k Kinds) ByType(name string) (*Kind, error) {
	for i := range k {
		if k[i].Name == name {
			return &k[i], nil
		}
	}
	return nil, fmt.Errorf("the control plane does not know the type %q", name)
}

// ByWord returns the kind that a person means: singular or plural, with or without hyphens, in any case.
func (k Kinds) ByWord(word string) (*Kind, error) {
	w := fold(word)
	for i := range k {
		if slices.Contains([]string{fold(k[i].Name), fold(k[i].Path), fold(k[i].Singular), fold(k[i].Plural)}, w) {
			return &k[i], nil
		}
	}
	paths := make([]string, 0, len(k))
	for _, kind := range k {
		paths = append(paths, kind.Path)
	}
	slices.Sort(paths)
	return nil, fmt.Errorf("the control plane does not know %q, it knows %s", word, strings.Join(paths, ", "))
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
}

// URL returns the path of the collection, or of one of its resources when name is not empty.
func (k *Kind) URL(mesh, name string) []string {
	var path []string
	if k.Scope == "Mesh" {
		path = append(path, "meshes", mesh)
	}
	path = append(path, k.Path)
	if name != "" {
		path = append(path, name)
	}
	return path
}
