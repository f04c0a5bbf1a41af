//go:build linux

package redirect_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// theirs are rules of others with counters, own chains, and comments that hold our words.
const theirs = `*filter
:MYFILTER - [0:0]
[5:150] -A INPUT -p tcp -m tcp --dport 4444 -j DROP
[7:700] -A MYFILTER -m comment --comment "kuma/mesh/transparent/proxy/not in our tables" -j RETURN
COMMIT
*nat
:MYCHAIN - [0:0]
[1:60] -A PREROUTING -p tcp -m tcp --dport 7777 -j MYCHAIN
[2:120] -A OUTPUT -p tcp -m tcp --dport 9999 -m comment --comment "see kuma/mesh/transparent/proxy/readme about KUMA_MESH_OUTBOUND" -j REDIRECT --to-ports 9998
[4:240] -A MYCHAIN -m comment --comment "-j KUMA_MESH_INBOUND \"quoted\" \\ and more" -j RETURN
COMMIT
`

// theirTable is what only nft(8) makes.
const theirTable = `table inet theirs {
	set s { type ipv4_addr; }
	chain c {
		type filter hook input priority 0;
		ip saddr @s tcp dport 1234 counter packets 9 bytes 99 drop
	}
}
`

// kumas are the heart of an installation of Kuma 2.9, with its comments.
const kumas = `*nat
:KUMA_MESH_INBOUND - [0:0]
:KUMA_MESH_OUTBOUND - [0:0]
:KUMA_MESH_INBOUND_REDIRECT - [0:0]
:KUMA_MESH_OUTBOUND_REDIRECT - [0:0]
-A PREROUTING -p tcp -m comment --comment "kuma/mesh/transparent/proxy/redirect inbound TCP traffic" -j KUMA_MESH_INBOUND
-A OUTPUT -p tcp -m comment --comment "kuma/mesh/transparent/proxy/redirect outbound TCP traffic" -j KUMA_MESH_OUTBOUND
-A KUMA_MESH_INBOUND -p tcp -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND -j KUMA_MESH_OUTBOUND_REDIRECT
-A KUMA_MESH_INBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A KUMA_MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`

// load gives rules to both families of a flavour, with their counters.
func load(t testing.TB, h *netlab.Host, flavour, text string) {
	t.Helper()
	redirectlab.Shell(t, h, text, "t=$(cat); for c in iptables ip6tables; do printf '%s\\n' \"$t\" | $c-"+flavour+"-restore -c --noflush; done")
}

// foreign gives a host rules of others, in both flavours and in tables that only nft(8) makes.
func foreign(t testing.TB, h *netlab.Host) {
	t.Helper()
	load(t, h, "nft", theirs)
	load(t, h, "legacy", theirs)
	redirectlab.Shell(t, h, theirTable, "nft -f -")
}

// kumasRules gives a host what Kuma's own kumactl leaves in a flavour.
func kumasRules(t testing.TB, h *netlab.Host, flavour string) {
	t.Helper()
	load(t, h, flavour, kumas)
}

// withoutEmptyTables drops from a snapshot tables without rules and custom chains: the kernel cannot drop legacy ones.
func withoutEmptyTables(s string) string {
	var out, table []string
	used := false
	for line := range strings.Lines(s) {
		switch {
		case line[0] == '*':
			table, used = []string{line}, false
		case table == nil:
			out = append(out, line)
		case line == "COMMIT\n":
			if used {
				out = append(append(out, table...), line)
			}
			table = nil
		default:
			used = used || line[0] != ':' || strings.Contains(line, " - ")
			table = append(table, line)
		}
	}
	return strings.Join(out, "")
}
