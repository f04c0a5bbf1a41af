package hostname

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
	naming "github.com/kuma-dp/kuma-dp/resource/hostname"
)

// compile parses a template. Errors are the messages of conditions (contract dns.md §1.3).
func compile(text string) (*naming.Template, error) {
	t, err := naming.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("failed compiling gotemplate error=%q", err.Error())
	}
	return t, nil
}

// evaluate makes the hostname of a service. Errors are the messages of conditions.
func evaluate(t *naming.Template, r *resource.Resource, zone string) (string, error) {
	v := naming.Values{
		Name: r.Name, DisplayName: r.DisplayName(), Namespace: r.Labels[resource.LabelNamespace], Mesh: r.Mesh, Zone: r.Labels[resource.LabelZone],
		Label: func(key string) (string, error) {
			v, ok := r.Labels[key]
			if !ok {
				return "", fmt.Errorf("label %s not found", key)
			}
			return v, nil
		},
	}
	if v.Zone == "" {
		v.Zone = zone
	}
	host, err := t.Render(v)
	switch {
	case errors.Is(err, naming.ErrLong):
		return "", errors.New("generated hostname is not a valid DNS name: must be no more than 253 characters")
	case err != nil:
		return "", fmt.Errorf("pre evaluation of template with parameters failed with error=%q", err.Error())
	}
	if reasons := naming.Unserved(host); len(reasons) > 0 {
		return "", fmt.Errorf("generated hostname %q is not a valid DNS name: %s", host, strings.Join(reasons, ", "))
	}
	return host, nil
}
