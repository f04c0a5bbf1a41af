package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
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
