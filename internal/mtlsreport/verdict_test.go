package mtlsreport

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	peer := func(kind Kind, ago time.Duration, open int) Peer {
		return Peer{Address: netip.MustParseAddr(map[bool]string{true: "10.0.0.9", false: "10.0.0.8"}[kind == Plaintext]), Kind: kind, LastSeen: now.Add(-ago), Open: open}
	}
	for _, tt := range []struct {
		name    string
		mode    Mode
		watched time.Duration
		peers   []Peer
		want    State
		why     string
	}{
		{"off", Off, 0, nil, StateOff, "off"},
		{"strict", Strict, 0, []Peer{peer(RefusedPlaintext, 0, 0)}, StateEnforced, "only connections with an identity"},
		{"new", Permissive, time.Minute, nil, StateObserving, "since 60s ago, and 1h are wanted"},
		{"nobody ever", Permissive, 3 * time.Hour, nil, StateReady, "in the 3h that were watched"},
		{"long ago", Permissive, 3 * time.Hour, []Peer{peer(Plaintext, 90*time.Minute, 0)}, StateReady, "came 90m ago"},
		{"just now", Permissive, time.Minute, []Peer{peer(Plaintext, time.Second, 0)}, StateWouldBreak, "1 peer came without an identity in the last 1h"},
		{"foreign TLS", Permissive, 3 * time.Hour, []Peer{peer(ForeignTLS, time.Minute, 0), peer(Plaintext, time.Minute, 0)}, StateWouldBreak, "2 peers came"},
		{"one in two ways", Permissive, 3 * time.Hour, []Peer{peer(ForeignTLS, time.Minute, 0), peer(RefusedPlaintext, time.Minute, 0)}, StateWouldBreak, "1 peer came"},
		{"a connection that never ends", Permissive, 3 * time.Hour, []Peer{peer(Plaintext, 2*time.Hour, 1)}, StateWouldBreak, "1 connection is open"},
		{"refused while it was strict", Permissive, 3 * time.Hour, []Peer{peer(RefusedPlaintext, time.Minute, 0)}, StateWouldBreak, "1 peer came"},
		{"no certificate is refused in any mode", Permissive, 3 * time.Hour, []Peer{peer(RefusedNoIdentity, time.Minute, 0)}, StateReady, "nobody"},
		{"exactly an hour ago", Permissive, 3 * time.Hour, []Peer{peer(Plaintext, time.Hour, 0)}, StateReady, "1h ago"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &Inbound{Mode: tt.mode, Since: now.Add(-tt.watched), Peers: tt.peers}
			if got, why := in.Verdict(now, time.Hour); got != tt.want || !strings.Contains(why, tt.why) {
				t.Errorf("%s: %s, want %s: %s", got, why, tt.want, tt.why)
			}
		})
	}
}
