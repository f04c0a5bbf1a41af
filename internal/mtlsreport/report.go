// Package mtlsreport is what an agent tells the control plane about connections to its workload: how many came with mTLS and
// how many without, and from where (docs/guides/progressively-rolling-in-strict-mtls.md). Both sides use it; it knows neither.
package mtlsreport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Method is the call that carries a Report, of ours alone: a control plane of Kuma does not implement it. Both of its messages
// are google.protobuf.BytesValue, the answer an empty one. It is authenticated as a certificate request is, by the metadata
// authorization (a dataplane token) and kuma-node-id ({mesh}.{name}).
const (
	Service = "kumadp.v1alpha1.MTLSReports"
	Method  = "Put"
)

// Bounds of a Report: what an agent sends, and what the control plane reads.
const (
	MaxBytes    = 256 << 10
	MaxInbounds = 256
	MaxPeers    = 128 // of an inbound
)

// Mode is what an inbound listener accepts.
type Mode string

// Modes. An inbound of a mesh without mTLS is Off and nothing is counted.
const (
	Off        Mode = "Off"
	Permissive Mode = "Permissive"
	Strict     Mode = "Strict"
)

// Kind is how a peer came that did not come with an identity of the mesh.
type Kind string

// Kinds. The first two have reached the workload, the others were refused.
const (
	Plaintext         Kind = "plaintext"
	ForeignTLS        Kind = "foreign-tls"
	RefusedPlaintext  Kind = "refused-plaintext"
	RefusedNoIdentity Kind = "refused-no-certificate"
	RefusedUntrusted  Kind = "refused-untrusted"
	RefusedOtherwise  Kind = "refused"
)

// Served tells whether peers of the kind have reached the workload.
func (k Kind) Served() bool { return k == Plaintext || k == ForeignTLS }

// Report is the whole of what an agent has counted; a later one replaces it.
type Report struct {
	// At is the agent's clock when it made the report: all times are of that clock.
	At time.Time `json:"at"`
	// Since is when counting began, with the agent's start.
	Since    time.Time `json:"since"`
	Inbounds []Inbound `json:"inbounds"`
}

// Inbound is one listener in front of the workload.
type Inbound struct {
	Address netip.AddrPort `json:"address"`
	Mode    Mode           `json:"mode"`
	// Since is when the listener was first seen: what happened before is not known.
	Since      time.Time `json:"since"`
	MTLS       Count     `json:"mtls"`
	ForeignTLS Count     `json:"foreignTls"`
	Plaintext  Count     `json:"plaintext"`
	// Refused counts connections that were not let in.
	Refused uint64 `json:"refused"`
	// Peers are those without an identity of the mesh, the last seen first, at most MaxPeers. Forgotten counts the ones left out.
	Peers     []Peer `json:"peers"`
	Forgotten uint64 `json:"forgotten,omitempty"`
}

// Count is of connections, and of the requests in them where the protocol has any.
type Count struct {
	Connections uint64 `json:"connections"`
	Requests    uint64 `json:"requests,omitempty"`
}

// Peer is where connections of one kind came from.
type Peer struct {
	Address netip.Addr `json:"address"`
	Kind    Kind       `json:"kind"`
	Count
	// Open counts the connections that have not ended: with any, the peer is seen all the time.
	Open      int       `json:"open,omitempty"`
	FirstSeen time.Time `json:"firstSeen"`
	LastSeen  time.Time `json:"lastSeen"`
	// Reason is why the last one was refused.
	Reason string `json:"reason,omitempty"`
}

// Decode reads a Report and holds it to its bounds.
func Decode(b []byte) (*Report, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("read mTLS report: %d bytes are more than %d", len(b), MaxBytes)
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read mTLS report: %w", err)
	}
	if len(r.Inbounds) > MaxInbounds {
		return nil, fmt.Errorf("read mTLS report: %d inbounds are more than %d", len(r.Inbounds), MaxInbounds)
	}
	for _, in := range r.Inbounds {
		if err := in.check(); err != nil {
			return nil, fmt.Errorf("read mTLS report: inbound %s: %w", in.Address, err)
		}
	}
	return r, nil
}

func (in *Inbound) check() error {
	switch {
	case !in.Address.IsValid():
		return errors.New("no address")
	case in.Mode != Off && in.Mode != Permissive && in.Mode != Strict:
		return fmt.Errorf("unknown mode %.20q", in.Mode)
	case len(in.Peers) > MaxPeers:
		return fmt.Errorf("%d peers are more than %d", len(in.Peers), MaxPeers)
	}
	for _, p := range in.Peers {
		if !p.Address.IsValid() || p.Kind == "" || len(p.Kind) > MaxReason || len(p.Reason) > MaxReason || p.Open < 0 {
			return errors.New("malformed peer")
		}
	}
	return nil
}

// MaxReason bounds Peer.Reason, in bytes.
const MaxReason = 200

// Encode writes a Report.
func (r *Report) Encode() ([]byte, error) { return json.Marshal(r) }
