package xds

import (
	"errors"

	"github.com/kuma-dp/kuma-dp/resource"
)

// A token may be bound to tags, which only a Dataplane has: a proxy is held to it when it registers, against the Dataplane
// that is stored and the one that it brings, and later whenever its Dataplane is another one than before.

// ErrNotPermitted means that Node.Permit refuses a Dataplane.
var ErrNotPermitted = errors.New("not permitted")

// denied is an ErrNotPermitted that says only why.
type denied struct{ error }

func (d denied) Is(target error) bool { return target == ErrNotPermitted }
func (d denied) Unwrap() error        { return d.error }

// permitted returns an ErrNotPermitted when the proxy may not have a Dataplane.
func permitted(node *Node, r *resource.Resource) error {
	if node.Permit == nil {
		return nil
	}
	dp, ok := r.Spec.(*resource.Dataplane)
	if !ok {
		return denied{errors.New("the resource of the node is no Dataplane")}
	}
	if err := node.Permit(dp); err != nil {
		return denied{err}
	}
	return nil
}

// allowed checks that what is sent next is the proxy's own. Its Dataplane may have been replaced since the stream began, by
// somebody whose token allows other tags, and the identity in the snapshot is that of the new one.
func (st *stream) allowed(snap *Snapshot) error {
	if st.permit == nil || snap.made == nil || snap.made.basis.dataplane == st.permitted {
		return nil
	}
	dp := snap.made.basis.dataplane
	if err := st.permit(resource.SpecOf[*resource.Dataplane](dp)); err != nil {
		return err
	}
	st.permitted = dp
	return nil
}
