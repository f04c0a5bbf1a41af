// Package dns is the resolver of the data-plane agent. It answers the mesh's hostnames from an immutable Table that is swapped
// atomically, and forwards every other name to the servers of resolv.conf.
//
// A query takes one of two ways. The hot path (wire.go, respond.go, udp.go, batch*.go) reads the question from the packet and writes the
// answer into a buffer of the reader; it allocates nothing, takes no lock and never waits. What it cannot answer goes to the
// forwarding path (forward.go, upstream.go), which has a goroutine per query, a deadline and a limit. Mesh names therefore keep
// resolving when every upstream is dead (contract dns.md §4.8).
//
// The agent's own queries to the upstreams are not redirected to the resolver, because redirection exempts the user the agent
// runs as (contract dns.md §3.3). Where that is not so the loop is noticed and the upstream is dropped.
package dns
