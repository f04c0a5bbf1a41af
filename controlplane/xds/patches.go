package xds

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// patches are what policies that patch made of the parts of a proxy that they concern.
type patches struct {
	rules   *policy.Rules
	patcher effect.Patcher
	// results are what became of parts; one without a Resource has been removed.
	results map[*Resource]part
	// order is that of the parts: a warning names the first one that a change does not fit.
	order    []*Resource
	added    []part
	warnings []string
}

// patch lets policies change what is finished.
func (w *work) patch() error {
	if w.patching == nil {
		return nil
	}
	rules := w.in.Rules[w.patching.Kind]
	before := w.earlier.patches
	p := &patches{rules: rules, results: map[*Resource]part{}}
	if before != nil && before.rules == rules {
		p.patcher = before.patcher
	} else {
		before, p.patcher = &patches{}, w.patching.Patch(rules)
	}
	concerned := w.concerned(p.patcher)
	if len(lastOfEachName(concerned)) < len(concerned) {
		w.b.parts = lastOfEachName(w.b.parts)
		concerned = w.concerned(p.patcher)
	}
	var fresh []part
	for _, one := range concerned {
		p.order = append(p.order, one.Resource)
		if r, ok := before.results[one.Resource]; ok {
			p.results[one.Resource] = r
		} else {
			fresh = append(fresh, one)
		}
	}
	switch same := len(fresh) == 0 && before.rules != nil; {
	case same && (len(before.warnings) == 0 || slices.Equal(before.order, p.order)):
		p.added, p.warnings = before.added, before.warnings
	default:
		if err := w.runPatch(p, fresh); err != nil {
			return err
		}
		if len(p.warnings)+len(before.warnings) > 0 && len(fresh) < len(concerned) {
			if err := w.runPatch(p, concerned); err != nil {
				return err
			}
		}
	}
	w.made.patches = p
	if len(p.warnings) > 0 {
		w.b.patchWarnings = map[resource.Kind][]string{w.patching.Kind: p.warnings}
		w.b.warnings = append(w.b.warnings, p.warnings...)
	}
	w.b.parts = append(p.replace(w.b.parts), p.added...)
	return nil
}

func (w *work) concerned(p effect.Patcher) []part {
	var out []part
	for _, one := range w.b.parts {
		if one.patchable() && p.Concerns(one.origin, one.typeURL == TypeListener, one.Name) {
			out = append(out, one)
		}
	}
	return out
}

func (w *work) runPatch(p *patches, parts []part) error {
	in := make([]effect.Part, len(parts))
	for i, one := range parts {
		m := w.b.messages[one.Resource]
		if m == nil { // it was made for another snapshot
			var err error
			if m, err = one.Any.UnmarshalNew(); err != nil {
				return err
			}
		}
		in[i] = effect.Part{Origin: one.origin, Message: m}
	}
	out, warnings := p.patcher.Patch(in)
	p.added, p.warnings = nil, warnings
	for i, o := range out {
		switch {
		case i >= len(in):
			if o.Message == nil {
				continue
			}
			done, err := w.b.packPart(o)
			if err != nil {
				return err
			}
			p.added = append(p.added, done)
		case o.Message == in[i].Message:
			p.results[parts[i].Resource] = parts[i]
		case o.Message == nil:
			p.results[parts[i].Resource] = part{}
		default:
			done, err := w.b.packPart(o)
			if err != nil {
				return err
			}
			p.results[parts[i].Resource] = done
		}
	}
	return nil
}

// replace puts the results in the places of what they were made of.
func (p *patches) replace(parts []part) []part {
	out := parts[:0]
	for _, one := range parts {
		r, ok := p.results[one.Resource]
		switch {
		case !ok:
			out = append(out, one)
		case r.Resource != nil:
			out = append(out, r)
		}
	}
	return out
}

// lastOfEachName drops the parts that another one of the same type and name replaces.
func lastOfEachName(parts []part) []part {
	type id struct{ typeURL, name string }
	last := make(map[id]int, len(parts))
	for i, p := range parts {
		last[id{p.typeURL, p.Name}] = i
	}
	if len(last) == len(parts) {
		return parts
	}
	out := make([]part, 0, len(last))
	for i, p := range parts {
		if last[id{p.typeURL, p.Name}] == i {
			out = append(out, p)
		}
	}
	return out
}
