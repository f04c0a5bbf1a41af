package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestTable(t *testing.T) {
	tab := NewTable([]Record{
		{"B.mesh.", addrs("241.0.0.1")},
		{"a.mesh", addrs("241.0.0.1", "fe80::1%eth0")},
		{"b.mesh", addrs("241.0.0.2")},
		{"empty.mesh", nil},
	}, 1500*time.Millisecond)
	if tab.TTL() != time.Second || tab.Len() != 3 {
		t.Errorf("TTL %v, %d names", tab.TTL(), tab.Len())
	}
	if got, ok := tab.Lookup("B.MESH"); !ok || !slices.Equal(got, addrs("241.0.0.2")) {
		t.Errorf("the later record of a name must count: got %v", got)
	}
	if got, ok := tab.Lookup("a.mesh."); !ok || !slices.Equal(got, addrs("241.0.0.1", "fe80::1")) {
		t.Errorf("got %v", got)
	}
	if got, ok := tab.Lookup("empty.mesh"); !ok || len(got) != 0 {
		t.Errorf("got %v, %v", got, ok)
	}
	if _, ok := tab.Lookup("c.mesh"); ok {
		t.Error("found a name that is not there")
	}
	if name, ok := tab.LookupAddr(netip.MustParseAddr("241.0.0.1")); !ok || name != "B.mesh" {
		t.Errorf("the first name of an address must count: got %q", name)
	}
	if _, ok := tab.LookupAddr(netip.MustParseAddr("241.0.0.3")); ok {
		t.Error("found an address that is not there")
	}
	var names []string
	for _, r := range tab.Records() {
		names = append(names, r.Name)
	}
	if want := []string{"a.mesh", "b.mesh", "empty.mesh"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestTableLeavesOutWhatCannotBeServed(t *testing.T) {
	long := strings.Repeat("a", 63)
	longest := strings.Join([]string{long, long, long, long[:61]}, ".")
	tab := NewTable([]Record{
		{"", nil},
		{".", nil},
		{"a..b", nil},
		{".a", nil},
		{long + "a.mesh", nil},
		{longest + "a", nil},
		{"a b.mesh", nil},
		{"a\x00.mesh", nil},
		{"good.mesh", []netip.Addr{{}, netip.MustParseAddr("241.0.0.1")}},
		{longest, addrs("241.0.0.2")},
	}, time.Minute)
	if n := len(tab.Skipped()); n != 9 {
		t.Errorf("%d left out, want 9: %v", n, tab.Skipped())
	}
	if got, _ := tab.Lookup("good.mesh"); !slices.Equal(got, addrs("241.0.0.1")) {
		t.Errorf("got %v", got)
	}
	if _, ok := tab.Lookup(longest); !ok || tab.Len() != 2 {
		t.Errorf("the longest name is not there; %d names", tab.Len())
	}
}

// Each answer begins one address further, whatever else is asked between, and every address is in every answer.
func TestAddressesTakeTurns(t *testing.T) {
	var r responder
	r.table.Store(NewTable([]Record{
		{"two.mesh", addrs("241.0.0.1", "241.0.0.2", "fd00::1", "fd00::2", "fd00::3")},
		{"one.mesh", addrs("241.0.0.9")},
	}, DefaultTTL))
	answer := func(name string, qtype uint16) []string {
		t.Helper()
		var q query
		out, v := r.respond(nil, wire(question(name, qtype)), &q, false)
		m := new(mdns.Msg)
		if err := m.Unpack(out); err != nil || v != answered {
			t.Fatalf("verdict %v, %v", v, err)
		}
		return data(m)
	}
	for i, want := range [][2]string{
		{"241.0.0.1 241.0.0.2", "fd00::1 fd00::2 fd00::3"},
		{"241.0.0.2 241.0.0.1", "fd00::2 fd00::3 fd00::1"},
		{"241.0.0.1 241.0.0.2", "fd00::3 fd00::1 fd00::2"},
		{"241.0.0.2 241.0.0.1", "fd00::1 fd00::2 fd00::3"},
	} {
		got := [2]string{strings.Join(answer("two.mesh", mdns.TypeA), " "), strings.Join(answer("two.mesh", mdns.TypeAAAA), " ")}
		if got != want {
			t.Errorf("answer %d: got %q, want %q", i, got, want)
		}
		if one := answer("one.mesh", mdns.TypeA); !slices.Equal(one, []string{"241.0.0.9"}) {
			t.Errorf("got %v", one)
		}
	}
	if got := answer("two.mesh", mdns.TypeANY); len(got) != 5 {
		t.Errorf("got %v, want all of both families", got)
	}
}

// A cut answer begins elsewhere each time too, so that no address of a long list is out of reach of clients without TCP.
func TestCutAnswersReachAllAddresses(t *testing.T) {
	var r responder
	r.table.Store(NewTable(records(), DefaultTTL))
	msg, seen := wire(question("many.svc.mesh.local", mdns.TypeA)), map[string]bool{}
	for range 60 {
		var q query
		out, _ := r.respond(nil, msg, &q, false)
		m := new(mdns.Msg)
		if err := m.Unpack(out); err != nil || !m.Truncated || len(out) > minUDP || len(m.Answer) < 25 {
			t.Fatalf("%d bytes, %d answers, truncated %v, %v", len(out), len(m.Answer), m.Truncated, err)
		}
		for _, ip := range data(m) {
			seen[ip] = true
		}
	}
	if len(seen) != 60 {
		t.Errorf("%d of 60 addresses were given", len(seen))
	}
}

// Against the simplest table there is, with names and addresses that repeat.
func TestTableIsLikeAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var recs []Record
		names, owners := map[string][]netip.Addr{}, map[netip.Addr]string{}
		for range rng.IntN(300) {
			r := Record{Name: fmt.Sprintf("N%d.mesh", rng.IntN(200))}
			for range rng.IntN(4) {
				ip := netip.AddrFrom4([4]byte{241, 0, 0, byte(rng.IntN(100))})
				if rng.IntN(2) == 0 {
					ip = netip.AddrFrom16(ip.As16())
				}
				r.Addrs = append(r.Addrs, ip)
				if owners[ip] == "" {
					owners[ip] = r.Name
				}
			}
			recs = append(recs, r)
			sorted := slices.Clone(r.Addrs)
			slices.SortStableFunc(sorted, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
			names[strings.ToLower(r.Name)] = sorted
		}
		tab := NewTable(recs, DefaultTTL)
		if tab.Len() != len(names) {
			t.Fatalf("%d names, want %d", tab.Len(), len(names))
		}
		for i := range 200 {
			name := fmt.Sprintf("n%d.mesh", i)
			want, there := names[name]
			if got, ok := tab.Lookup(name); ok != there || !slices.Equal(got, want) {
				t.Fatalf("%s: got %v, %v, want %v, %v", name, got, ok, want, there)
			}
		}
		for i := range 100 {
			v4 := netip.AddrFrom4([4]byte{241, 0, 0, byte(i)})
			for _, ip := range []netip.Addr{v4, netip.AddrFrom16(v4.As16())} {
				if got, ok := tab.LookupAddr(ip); got != owners[ip] || ok != (owners[ip] != "") {
					t.Fatalf("%s: got %q, %v, want %q", ip, got, ok, owners[ip])
				}
			}
		}
	}
}
