// Package xds turns the topology and the policies into Envoy's resources, one immutable Snapshot per proxy, and serves
// snapshots over ADS in both protocols, state of the world and delta (contract controlplane.md §3, agent.md §5).
//
// A Generator is pure but for a cache of parts that many proxies share. A Server owns the streams, learns from the
// topology which proxies a change touches, and makes only their snapshots again: there is no ticker and no scan.
package xds
