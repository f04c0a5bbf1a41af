package policy

// Entry is one element of `to` or `from` of a kind with conf C.
type Entry[C any] struct {
	TargetRef TargetRef `json:"targetRef" schema:"required"`
	Default   C         `json:"default"`
}

// ToFromSpec is the body of kinds with both lists. A kind embeds one of ToFromSpec, ToSpec, FromSpec and SingleSpec in its
// Spec and adds Validate and CheckSchema; the rest of Targeted comes from here.
type ToFromSpec[C any] struct {
	// TargetRef is the proxies that the policy is for, the whole mesh when absent.
	TargetRef *TargetRef `json:"targetRef,omitempty"`
	// To is rules for what these proxies send, by destination.
	To []Entry[C] `json:"to,omitempty"`
	// From is rules for what they receive, by client.
	From []Entry[C] `json:"from,omitempty"`
}

// Target implements Targeted.
func (s *ToFromSpec[C]) Target() TargetRef { return TargetOrMesh(s.TargetRef) }

// ToItems implements Targeted.
func (s *ToFromSpec[C]) ToItems() []Item { return items(s.To) }

// FromItems implements Targeted.
func (s *ToFromSpec[C]) FromItems() []Item { return items(s.From) }

// Default implements Targeted.
func (*ToFromSpec[C]) Default() any { return nil }

// ToSpec is the body of kinds for outgoing traffic only.
type ToSpec[C any] struct {
	// TargetRef is the proxies that the policy is for, the whole mesh when absent.
	TargetRef *TargetRef `json:"targetRef,omitempty"`
	// To is rules for what these proxies send, by destination.
	To []Entry[C] `json:"to,omitempty"`
}

// Target implements Targeted.
func (s *ToSpec[C]) Target() TargetRef { return TargetOrMesh(s.TargetRef) }

// ToItems implements Targeted.
func (s *ToSpec[C]) ToItems() []Item { return items(s.To) }

// FromItems implements Targeted.
func (*ToSpec[C]) FromItems() []Item { return nil }

// Default implements Targeted.
func (*ToSpec[C]) Default() any { return nil }

// FromSpec is the body of kinds for incoming traffic only.
type FromSpec[C any] struct {
	// TargetRef is the proxies that the policy is for, the whole mesh when absent.
	TargetRef *TargetRef `json:"targetRef,omitempty"`
	// From is rules for what these proxies receive, by client.
	From []Entry[C] `json:"from,omitempty"`
}

// Target implements Targeted.
func (s *FromSpec[C]) Target() TargetRef { return TargetOrMesh(s.TargetRef) }

// ToItems implements Targeted.
func (*FromSpec[C]) ToItems() []Item { return nil }

// FromItems implements Targeted.
func (s *FromSpec[C]) FromItems() []Item { return items(s.From) }

// Default implements Targeted.
func (*FromSpec[C]) Default() any { return nil }

// SingleSpec is the body of kinds without lists.
type SingleSpec[C any] struct {
	// TargetRef is the proxies that the policy is for, the whole mesh when absent.
	TargetRef *TargetRef `json:"targetRef,omitempty"`
	// Conf is what is done to them.
	Conf C `json:"default"`
}

// Target implements Targeted.
func (s *SingleSpec[C]) Target() TargetRef { return TargetOrMesh(s.TargetRef) }

// ToItems implements Targeted.
func (*SingleSpec[C]) ToItems() []Item { return nil }

// FromItems implements Targeted.
func (*SingleSpec[C]) FromItems() []Item { return nil }

// Default implements Targeted.
func (s *SingleSpec[C]) Default() any { return &s.Conf }

// TargetOrMesh is what Targeted.Target returns for a top-level targetRef, which may be absent.
func TargetOrMesh(ref *TargetRef) TargetRef {
	if ref == nil {
		return TargetRef{Kind: Mesh}
	}
	return *ref
}

func items[C any](entries []Entry[C]) []Item {
	if len(entries) == 0 {
		return nil
	}
	out := make([]Item, len(entries))
	for i := range entries {
		out[i] = Item{TargetRef: entries[i].TargetRef, Conf: &entries[i].Default}
	}
	return out
}
