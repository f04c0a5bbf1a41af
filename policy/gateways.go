package policy

import "slices"

// IncludesGateways tells whether a top-level targetRef may select gateways: those have no inbounds whose clients a policy
// could tell apart (contract policies.md §3.1).
func IncludesGateways(top TargetRef) bool {
	switch top.Kind {
	case MeshGateway, MeshHTTPRoute:
		return true
	case Mesh, MeshSubset:
		return len(top.ProxyTypes) == 0 || slices.Contains(top.ProxyTypes, ProxyGateway)
	default:
		return false
	}
}

// MeshIfGateways is Grammar.To of kinds that act on what comes in: at a gateway that is `to` the whole mesh, at every
// other proxy there is no such list.
func MeshIfGateways(top TargetRef) []string {
	if IncludesGateways(top) {
		return []string{Mesh}
	}
	return nil
}

// UnlessGateways makes the Grammar.From of such kinds: the clients, unless gateways may be selected.
func UnlessGateways(clients ...string) func(TargetRef) []string {
	return func(top TargetRef) []string {
		if IncludesGateways(top) {
			return nil
		}
		return clients
	}
}
