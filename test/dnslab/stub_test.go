//go:build linux

package dnslab

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// lookupEnv makes the test program look names up and print what Go's own resolver says.
const lookupEnv = "DNSLAB_LOOKUP"

// lookup prints a line "name family: addresses" for each word "name/family", as testdata/getaddrinfo.c does.
func lookup(words string) int {
	r := net.Resolver{PreferGo: true}
	for word := range strings.FieldsSeq(words) {
		name, family, _ := strings.Cut(word, "/")
		list, err := r.LookupNetIP(context.Background(), strings.TrimSuffix("ip"+family, "0"), name)
		fmt.Printf("%s %s:", name, family)
		for _, a := range list {
			fmt.Printf(" %s", a.Unmap()) // Go takes a mapped address for the IPv4 one
		}
		if err != nil {
			fmt.Print(" ", "noname")
		}
		fmt.Println()
	}
	return 0
}

const pythonLookup = `
import socket, sys
for name, family in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        found = socket.getaddrinfo(name, 80, {"4": socket.AF_INET, "6": socket.AF_INET6}.get(family, 0), socket.SOCK_STREAM)
        print(f"{name} {family}:", *[f[4][0] for f in found])
    except socket.gaierror as e:
        print(f"{name} {family}:", {socket.EAI_NONAME: "noname", socket.EAI_NODATA: "nodata", socket.EAI_AGAIN: "again"}.get(e.errno, "other"))
`

// TestStubs has the resolvers that applications are linked with look up names of the mesh. musl is the sharpest: it asks for
// both families at once and takes one answer that a name is unknown for both.
func TestStubs(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	var pairs, words []string
	for _, r := range records() {
		for _, family := range []string{"0", "4", "6"} {
			pairs = append(pairs, r.Name, family)
			words = append(words, r.Name+"/"+family)
		}
	}
	for _, stub := range []struct {
		name string
		run  func(t *testing.T) string
		// cuts: musl 1.2.3 takes what fits into 512 bytes and has no TCP.
		cuts bool
	}{
		{"glibc", func(t *testing.T) string { return shell(t, l.app, "", program("glibc"), pairs...) }, false},
		{"musl", func(t *testing.T) string { return shell(t, l.app, "", program("musl"), pairs...) }, true},
		{"Python", func(t *testing.T) string {
			return shell(t, l.app, "", "/usr/bin/python3", append([]string{"-c", pythonLookup}, pairs...)...)
		}, false},
		{"Go", func(t *testing.T) string {
			return shell(t, l.app, "", "env", "GODEBUG=netdns=go", lookupEnv+"="+strings.Join(words, " "), os.Args[0])
		}, false},
	} {
		t.Run(stub.name, func(t *testing.T) {
			got := map[string][]string{}
			for line := range strings.Lines(stub.run(t)) {
				key, list, _ := strings.Cut(strings.TrimSpace(line), ":")
				got[key] = strings.Fields(list)
				slices.Sort(got[key])
			}
			for i := 0; i < len(pairs); i += 2 {
				name, family := pairs[i], pairs[i+1]
				have := slices.DeleteFunc(slices.Clone(got[name+" "+family]), func(w string) bool { return w == "noname" || w == "nodata" })
				want := addrsOf(t, name, family != "6", family != "4")
				if stub.name == "Go" {
					want, have = asGo(want, family), slices.Compact(have)
				}
				whole := !stub.cuts || len(want) <= 20
				if _, asked := got[name+" "+family]; !asked || (whole && !slices.Equal(have, want)) || (!whole && (len(have) < 20 || !subset(have, want))) {
					t.Errorf("%s, family %s: got %v, want %v", name, family, got[name+" "+family], want)
				}
			}
		})
	}
}

// asGo is what addresses are to Go, which takes a mapped one for IPv4.
func asGo(list []string, family string) []string {
	var out []string
	for _, a := range addrs(list...) {
		if a = a.Unmap(); family != "6" || a.Is6() {
			out = append(out, a.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

// TestGetent asks through the switch of name services, as most programs do.
func TestGetent(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ahostsv4", "one.svc.mesh.local"}, "241.0.0.2"},
		{[]string{"ahostsv6", "six.svc.mesh.local"}, "fd00:241::3"},
		{[]string{"ahosts", "backend_demo_svc_80.mesh"}, "240.0.0.5"},
		{[]string{"hosts", "both.svc.mesh.local"}, "fd00:241::4"},
		{[]string{"hosts", "241.0.0.2"}, "241.0.0.2"},
	} {
		out := shell(t, l.app, "", "getent", c.args...)
		if f := strings.Fields(out); len(f) < 2 || !strings.Contains(out, c.want) {
			t.Errorf("getent %v: %q, want %s", c.args, out, c.want)
		}
	}
	if f := strings.Fields(shell(t, l.app, "", "getent", "hosts", "241.0.0.2")); len(f) != 2 || f[1] != "one.svc.mesh.local" {
		t.Errorf("name of an address: %v", f)
	}
}
