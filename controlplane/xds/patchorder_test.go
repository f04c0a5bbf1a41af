package xds

import (
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// complainer fits none of its parts and says so of the first, as a policy that patches does.
type complainer struct{}

func (complainer) Concerns(effect.Origin, bool, string) bool { return true }

func (complainer) Patch(parts []effect.Part) ([]effect.Part, []string) {
	if len(parts) == 0 {
		return nil, nil
	}
	return parts, []string{parts[0].Message.(*clusterv3.Cluster).Name}
}

// TestWarningOfThePresentOrder: which cluster a warning names depends on the order that they have now, not on that of before.
func TestWarningOfThePresentOrder(t *testing.T) {
	kind := &effect.Kind{Kind: "MeshProxyPatch", Patch: func(*policy.Rules) effect.Patcher { return complainer{} }}
	rules := map[resource.Kind]*policy.Rules{kind.Kind: {}}
	var parts []part
	for _, name := range []string{"a", "b"} {
		a, err := anypb.New(&clusterv3.Cluster{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part{"", TypeCluster, &Resource{Name: name, Any: a}})
	}
	before := &made{}
	for _, order := range [][]part{{parts[0], parts[1]}, {parts[1], parts[0]}, {parts[1], parts[0]}, {parts[1]}, {parts[0], parts[1]}} {
		w := &work{in: &Input{Rules: rules}, b: &builder{parts: slices.Clone(order)}, patching: kind, made: &made{}, earlier: &earlier{made: before}}
		if err := w.patch(); err != nil {
			t.Fatal(err)
		}
		if want := []string{order[0].Name}; !slices.Equal(w.b.warnings, want) {
			t.Errorf("clusters %v: warnings %q, want %q", order, w.b.warnings, want)
		}
		before = w.made
	}
}
