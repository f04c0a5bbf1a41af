package redirection

import (
	"fmt"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/nftables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// form is a value of --output. A further one is a further line of forms.
type form struct {
	name  string
	print func(*tp.Plan, settings.Options) (string, error)
}

// forms begin with the default.
var forms = []form{
	{"iptables", func(p *tp.Plan, o settings.Options) (string, error) {
		return p.Text(tp.TextOptions{Verbose: o.Verbose, NoComments: o.NoComments}), nil
	}},
	{"json", func(p *tp.Plan, _ settings.Options) (string, error) { return p.JSON() }},
	{"nft", func(p *tp.Plan, _ settings.Options) (string, error) { return nftables.Text(p), nil }},
	{"table", func(p *tp.Plan, _ settings.Options) (string, error) { return p.Table(), nil }},
}

func formNames() string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return strings.Join(names, "|")
}

func findForm(name string) (form, error) {
	for _, f := range forms {
		if f.name == name {
			return f, nil
		}
	}
	return form{}, fmt.Errorf("unknown output format %q, use one of %s", name, formNames())
}
