package workloadapi

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

var (
	ours = X509Response{
		SVIDs:     []SVID{{"spiffe://default/web", []byte("chain"), []byte("key"), []byte("bundle"), "hint"}, {ID: "spiffe://default/other"}},
		CRL:       [][]byte{[]byte("one"), []byte("two")},
		Federated: map[string][]byte{"spiffe://a": []byte("A"), "spiffe://b": []byte("B")},
	}
	theirs = &workload.X509SVIDResponse{
		Svids: []*workload.X509SVID{
			{SpiffeId: "spiffe://default/web", X509Svid: []byte("chain"), X509SvidKey: []byte("key"), Bundle: []byte("bundle"), Hint: "hint"},
			{SpiffeId: "spiffe://default/other"},
		},
		Crl: [][]byte{[]byte("one"), []byte("two")}, FederatedBundles: map[string][]byte{"spiffe://a": []byte("A"), "spiffe://b": []byte("B")},
	}
)

func TestMessagesAreThePublishedOnes(t *testing.T) {
	var got workload.X509SVIDResponse
	if err := proto.Unmarshal(ours.encode(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	b, err := proto.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	var back X509Response
	if err := back.decode(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ours, back); diff != "" {
		t.Error(diff)
	}

	bundles := BundlesResponse{CRL: ours.CRL, Bundles: ours.Federated}
	var gotBundles workload.X509BundlesResponse
	if err := proto.Unmarshal(bundles.encode(), &gotBundles); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(gotBundles.GetBundles(), ours.Federated, slices.Equal) || !slices.EqualFunc(gotBundles.GetCrl(), ours.CRL, slices.Equal) {
		t.Errorf("got %v", &gotBundles)
	}
	var again BundlesResponse
	if err := again.decode(bundles.encode()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bundles, again); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeX509Response(f *testing.F) {
	f.Add(ours.encode())
	f.Add([]byte{0x0a, 0xff})
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x05})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r X509Response
		mine := r.decode(b)
		var theirs workload.X509SVIDResponse
		if err := proto.Unmarshal(b, &theirs); mine != nil && err == nil {
			t.Errorf("%x is refused: %v", b, mine)
		} else if err != nil {
			return // it is stricter, about UTF-8 and wrong types
		}
		if len(r.SVIDs) != len(theirs.GetSvids()) || len(r.Federated) != len(theirs.GetFederatedBundles()) {
			t.Errorf("%x: %d identities of %d", b, len(r.SVIDs), len(theirs.GetSvids()))
		}
		for i, v := range theirs.GetSvids() {
			if got := r.SVIDs[i]; got.ID != v.GetSpiffeId() || string(got.Key) != string(v.GetX509SvidKey()) || string(got.Chain) != string(v.GetX509Svid()) {
				t.Errorf("%x: identity %d is %+v, want %v", b, i, got, v)
			}
		}
	})
}

func FuzzDecodeBundlesResponse(f *testing.F) {
	f.Add((&BundlesResponse{Bundles: ours.Federated}).encode())
	f.Add([]byte{0x12, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r BundlesResponse
		mine := r.decode(b)
		var theirs workload.X509BundlesResponse
		if err := proto.Unmarshal(b, &theirs); err == nil && (mine != nil || !maps.EqualFunc(r.Bundles, theirs.GetBundles(), slices.Equal)) {
			t.Errorf("%x: %v, %v; want %v", b, r, mine, &theirs)
		}
	})
}
