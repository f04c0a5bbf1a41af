package policy

import "github.com/kuma-dp/kuma-dp/resource"

// Advised is implemented by specs that may be valid, and be handed on as Kuma does, although Envoy will refuse them or they
// have no effect.
type Advised interface {
	// Advice says which fields these are, and what to do.
	Advice() []resource.Violation
}

// Advise runs conf on every conf of a policy. It is what a kind's Advice does.
func Advise[C any](s Targeted, conf func(f *resource.Faults, p resource.Path, c *C)) []resource.Violation {
	var f resource.Faults
	each := func(p resource.Path, items []Item) {
		for i, item := range items {
			checkConf(&f, p.Index(i).Field("default"), item.Conf, conf)
		}
	}
	each("spec.from", s.FromItems())
	each("spec.to", s.ToItems())
	checkConf(&f, "spec.default", s.Default(), conf)
	return f
}

// Advice returns what a writer should be told of a valid policy, nil for what is none.
func Advice(r *resource.Resource) []string {
	s, ok := r.Spec.(Advised)
	if !ok {
		return nil
	}
	var out []string
	for _, v := range s.Advice() {
		out = append(out, v.Field+": "+v.Reason)
	}
	return out
}
