package effect

import "github.com/kuma-dp/kuma-dp/policy"

// ClientConf is implemented by confs of `from` rules that also shape the clusters of the proxy whose inbounds they select
// (MeshTLS, contract policies.md §5).
type ClientConf interface {
	// ClusterKey differs for confs that make different clusters.
	ClusterKey() string
}

// OfClient returns the conf that a proxy takes as a client from the rules of its own inbounds, nil when there is none. It
// looks at all inbounds that policies select, also at those that a caller did not hand in, and takes the first: the confs
// of such a kind are the same for all.
func OfClient(r *policy.Rules) ClientConf {
	if r == nil {
		return nil
	}
	for _, f := range r.From {
		if len(f.Rules) == 0 {
			continue
		}
		if c, ok := f.Rules[0].Conf.(ClientConf); ok {
			return c
		}
	}
	return nil
}

// ClusterKey tells apart what rules mean for the clusters of a proxy beyond the rules of their services; empty when
// nothing.
func ClusterKey(r *policy.Rules) string {
	if c := OfClient(r); c != nil {
		return c.ClusterKey()
	}
	return ""
}
