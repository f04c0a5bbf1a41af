package inspect

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/crew"
)

// comparison tells what differs between configurations of many proxies, which share most of their resources: each pair of
// them is compared once.
type comparison struct {
	pairs map[resourcePair]*resourceDiff
}

// resourcePair is one resource before and after, nil where it is not there.
type resourcePair struct{ before, after *xds.Resource }

type resourceDiff struct {
	typeURL string
	ops     []Operation
	// before and after are the whole values, nil where there is none.
	before, after json.RawMessage
}

// compareAll finds the pairs of the proxies, and compares them.
func compareAll(proxies []xds.ProxyPreview) (*comparison, error) {
	c := &comparison{pairs: map[resourcePair]*resourceDiff{}}
	for _, p := range proxies {
		eachPair(p.Before, p.After, func(typeURL string, pair resourcePair) {
			if c.pairs[pair] == nil {
				c.pairs[pair] = &resourceDiff{typeURL: typeURL}
			}
		})
	}
	all := slices.Collect(maps.Keys(c.pairs))
	return c, crew.Each(len(all), func(i int) error { return c.pairs[all[i]].fill(all[i]) })
}

// eachPair calls f with what differs, sorted by type and name.
func eachPair(before, after *xds.Snapshot, f func(typeURL string, pair resourcePair)) {
	for _, typeURL := range union(before.Types(), after.Types()) {
		a, b := before.Resources(typeURL), after.Resources(typeURL)
		for _, name := range union(before.Names(typeURL), after.Names(typeURL)) {
			if x, y := a[name], b[name]; x == nil || y == nil || x.Version != y.Version {
				f(typeURL, resourcePair{x, y})
			}
		}
	}
}

// union merges sorted lists.
func union(a, b []string) []string {
	if slices.Equal(a, b) {
		return a
	}
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

func (d *resourceDiff) fill(pair resourcePair) (err error) {
	name := ""
	if pair.before != nil {
		name = pair.before.Name
		if d.before, err = pair.before.JSON(); err != nil {
			return err
		}
	}
	if pair.after != nil {
		name = pair.after.Name
		if d.after, err = pair.after.JSON(); err != nil {
			return err
		}
	}
	df, at := differ{}, "/"+pointerEscapes.Replace(d.typeURL)+"/"+pointerEscapes.Replace(name)
	switch {
	case pair.before == nil:
		df.add(at, d.after)
	case pair.after == nil:
		df.remove(at, d.before)
	default:
		df.values(at, d.before, d.after)
	}
	d.ops = df.ops
	for i := range d.ops {
		if err := d.ops[i].write(); err != nil {
			return err
		}
	}
	return nil
}

// diff returns the patch of one of the proxies, as diffJSON would.
func (c *comparison) diff(before, after *xds.Snapshot) []Operation {
	d := differ{ops: []Operation{}}
	// Of a type that is on one side only all resources come or go at once.
	whole := map[string]map[string]json.RawMessage{}
	eachPair(before, after, func(typeURL string, pair resourcePair) {
		one := c.pairs[pair]
		switch {
		case len(before.Names(typeURL)) > 0 && len(after.Names(typeURL)) > 0:
			d.ops = append(d.ops, one.ops...)
			return
		case whole[typeURL] == nil:
			whole[typeURL] = map[string]json.RawMessage{}
		}
		at := "/" + pointerEscapes.Replace(typeURL)
		last := len(whole[typeURL])+1 == len(before.Names(typeURL))+len(after.Names(typeURL))
		if pair.after == nil {
			if whole[typeURL][pair.before.Name] = one.before; last {
				d.remove(at, whole[typeURL])
			}
		} else if whole[typeURL][pair.after.Name] = one.after; last {
			d.add(at, whole[typeURL])
		}
	})
	return d.ops
}
