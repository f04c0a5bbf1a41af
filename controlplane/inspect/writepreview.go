package inspect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/kuma-dp/kuma-dp/internal/crew"
)

// How deep parts of the answer of `_preview` are.
const (
	proxyDepth     = 2
	operationDepth = 4
)

// write answers with a preview, the proxies of which are written side by side.
func (b *previewBody) write(w http.ResponseWriter) error { return answerWith(w, b.indented) }

// indented appends json.MarshalIndent(b, "", " ").
func (b *previewBody) indented(to []byte) ([]byte, error) {
	texts := make([][]byte, len(b.Proxies))
	err := crew.Each(len(texts), func(i int) error {
		a := &rulesWriter{depth: proxyDepth, confs: map[confAt][]byte{}}
		a.previewProxy(&b.Proxies[i])
		texts[i] = a.out
		return a.err
	})
	if err != nil {
		return to, err
	}
	size := 0
	for _, text := range texts {
		size += len(text) + len(",\n  ")
	}
	a := &rulesWriter{out: slices.Grow(to, size)}
	a.object(func() {
		list(a, "resources", b.Resources, func(r *previewResource) { a.marshal(r) })
		list(a, "proxies", texts, func(text *[]byte) { a.out = append(a.out, *text...) })
		list(a, "zoneProxies", b.ZoneProxies, func(name *string) { a.text(*name) })
	})
	return a.out, a.err
}

func (a *rulesWriter) previewProxy(p *previewProxy) {
	a.object(func() {
		a.string("mesh", p.Mesh)
		a.string("name", p.Name)
		list(a, "rules", p.Rules, func(r *previewRules) {
			a.object(func() {
				a.string("type", string(r.Type))
				for _, side := range []struct {
					name string
					*kindRules
				}{{"before", r.Before}, {"after", r.After}} {
					a.key(side.name)
					if side.kindRules == nil {
						a.out = append(a.out, "null"...)
					} else {
						a.kindRules(side.kindRules)
					}
				}
			})
		})
		list(a, "diff", p.Diff, func(o *Operation) {
			if o.text == nil {
				a.marshal(o)
			}
			a.out = append(a.out, o.text...)
		})
		list(a, "warnings", p.Warnings, func(s *string) { a.text(*s) })
		if p.Error != "" {
			a.string("error", p.Error)
		}
	})
}

// write makes the text of the operation, which proxies share.
func (o *Operation) write() (err error) {
	if o.text, err = json.MarshalIndent(o, spaces[:operationDepth], " "); err != nil {
		return fmt.Errorf("write the change of %s: %w", o.Path, err)
	}
	return nil
}
