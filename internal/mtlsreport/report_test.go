package mtlsreport

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func example() *Report {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	return &Report{Since: at, Inbounds: []Inbound{{
		Address: netip.MustParseAddrPort("[fd00::1]:80"), Mode: Permissive, Since: at, MTLS: Count{Connections: 2, Requests: 9}, Plaintext: Count{Connections: 1},
		Refused: 3, Forgotten: 1,
		Peers: []Peer{{Address: netip.MustParseAddr("10.0.0.9"), Kind: Plaintext, Count: Count{Connections: 1}, Open: 1, FirstSeen: at, LastSeen: at.Add(time.Second)}},
	}}}
}

func TestReportSurvives(t *testing.T) {
	want := example()
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s became %+v, %v", b, got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	many := func(n int, f func(*Report)) string {
		r := example()
		for range n {
			f(r)
		}
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"junk":          {"junk", "invalid character"},
		"too long":      {strings.Repeat(" ", MaxBytes+1), "more than"},
		"many inbounds": {many(MaxInbounds, func(r *Report) { r.Inbounds = append(r.Inbounds, Inbound{Address: r.Inbounds[0].Address, Mode: Off}) }), "257 inbounds"},
		"many peers":    {many(MaxPeers, func(r *Report) { r.Inbounds[0].Peers = append(r.Inbounds[0].Peers, r.Inbounds[0].Peers[0]) }), "129 peers"},
		"no address":    {`{"inbounds":[{"mode":"Off"}]}`, "no address"},
		"no mode":       {`{"inbounds":[{"address":"1.2.3.4:5"}]}`, "unknown mode"},
		"no peer":       {`{"inbounds":[{"address":"1.2.3.4:5","mode":"Off","peers":[{"kind":"plaintext"}]}]}`, "malformed peer"},
		"long reason": {
			fmt.Sprintf(`{"inbounds":[{"address":"1.2.3.4:5","mode":"Off","peers":[{"address":"::1","kind":"plaintext","reason":%q}]}]}`, strings.Repeat("x", MaxReason+1)),
			"malformed peer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := Decode([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %v, want %q", r, err, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	b, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil && len(again) <= MaxBytes {
			t.Fatalf("%s does not come back: %v", again, err)
		}
	})
}
