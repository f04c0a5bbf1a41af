package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

type overviewHead struct {
	Type             string            `json:"type"`
	Mesh             string            `json:"mesh,omitempty"`
	Name             string            `json:"name"`
	CreationTime     time.Time         `json:"creationTime"`
	ModificationTime time.Time         `json:"modificationTime"`
	Labels           map[string]string `json:"labels,omitempty"`
}

// overview is a resource and, when there is one, its insight: {"type": "DataplaneOverview", …, "dataplane": spec,
// "dataplaneInsight": spec}.
func (c collection) overview(res *resource.Resource) (json.RawMessage, error) {
	out, err := json.Marshal(overviewHead{
		Type: string(res.Kind) + "Overview", Mesh: res.Mesh, Name: res.Name, Labels: res.Labels,
		CreationTime: res.CreationTime, ModificationTime: res.ModificationTime,
	})
	if err != nil {
		return nil, err
	}
	field := strings.ToLower(string(res.Kind[:1])) + string(res.Kind[1:])
	if out, err = appendField(out, field, res.Spec); err != nil {
		return nil, err
	}
	insight, err := c.server.cfg.Store.Get(resource.Key{Kind: res.Kind + "Insight", Mesh: res.Mesh, Name: res.Name})
	if isNotFound(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	return appendField(out, field+"Insight", insight.Spec)
}

// appendField adds a field to a JSON object that is not empty.
func appendField(object []byte, name string, value any) ([]byte, error) {
	v, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(object[:len(object)-1])
	b.WriteString(`,"` + name + `":`)
	b.Write(v)
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (c collection) getOverview(w http.ResponseWriter, r *http.Request) error {
	if err := c.enter(r); err != nil {
		return err
	}
	res, err := c.server.cfg.Store.Get(c.key(r))
	if err != nil {
		return wrap(titleGet, err)
	}
	body, err := c.overview(res)
	if err != nil {
		return wrap(titleGet, err)
	}
	return WriteJSON(w, http.StatusOK, body)
}

func (c collection) listOverviews(w http.ResponseWriter, r *http.Request) error {
	found, err := c.find(r)
	if err != nil {
		return err
	}
	items := make([]json.RawMessage, len(found.items))
	for i, res := range found.items {
		if items[i], err = c.overview(res); err != nil {
			return wrap(titleList, err)
		}
	}
	return WriteJSON(w, http.StatusOK, listBody{Total: found.total, Items: items, Next: found.next})
}
