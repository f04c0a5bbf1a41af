//go:build linux

package dnslab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// reply is what dig makes of an answer.
type reply struct {
	Size     string `yaml:"message_size"`
	Protocol string `yaml:"socket_protocol"`
	From     string `yaml:"response_address"`
	Data     struct {
		Status     string   `yaml:"status"`
		Flags      string   `yaml:"flags"`
		Question   []string `yaml:"QUESTION_SECTION"`
		Answer     []string `yaml:"ANSWER_SECTION"`
		Authority  []string `yaml:"AUTHORITY_SECTION"`
		Additional int      `yaml:"ADDITIONAL"`
		OPT        *struct {
			EDNS struct {
				Version int    `yaml:"version"`
				Flags   string `yaml:"flags"`
				UDP     int    `yaml:"udp"`
				EDE     struct {
					Code string `yaml:"INFO-CODE"`
				} `yaml:"EDE"`
			} `yaml:"EDNS"`
		} `yaml:"OPT_PSEUDOSECTION"`
	} `yaml:"response_message_data"`
}

func (r *reply) has(flag string) bool { return slices.Contains(strings.Fields(r.Data.Flags), flag) }

// addrs are the data of the answer's records, sorted.
func (r *reply) addrs() []string {
	var out []string
	for _, rr := range r.Data.Answer {
		f := strings.Fields(rr)
		out = append(out, f[len(f)-1])
	}
	slices.Sort(out)
	return out
}

func (r *reply) bytes(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(r.Size, "b"))
	if err != nil {
		t.Fatalf("size %q: %v", r.Size, err)
	}
	return n
}

// dig asks once each, with the patience of the usual client, and fails the test when an answer does not come or cannot be read.
func (l lab) dig(t testing.TB, args ...string) []*reply {
	t.Helper()
	out := shell(t, l.app, "", "dig", append([]string{"+yaml", "+tries=1", "+timeout=5", "-r", "@127.0.0.1"}, args...)...)
	var messages []struct {
		Type    string `yaml:"type"`
		Message yaml.Node
	}
	if err := yaml.Unmarshal([]byte(out), &messages); err != nil {
		t.Fatalf("dig %v: %v\n%s", args, err, out)
	}
	var replies []*reply
	for _, m := range messages {
		var r reply
		if m.Type != "MESSAGE" {
			t.Fatalf("dig %v:\n%s", args, out)
		}
		if err := m.Message.Decode(&r); err != nil {
			t.Fatalf("dig %v: %v\n%s", args, err, out)
		}
		replies = append(replies, &r)
	}
	if len(replies) == 0 {
		t.Fatalf("dig %v prints no answer:\n%s", args, out)
	}
	return replies
}

func (l lab) digOne(t testing.TB, args ...string) *reply {
	t.Helper()
	r := l.dig(t, args...)
	if len(r) != 1 {
		t.Fatalf("dig %v: %d answers", args, len(r))
	}
	return r[0]
}

// TestMatrix asks for every kind of name by every type that clients use (contract dns.md §4.1, §5.4 item 1).
func TestMatrix(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	types := []string{"A", "AAAA", "ANY", "TXT", "MX", "NS", "SRV", "HTTPS", "SVCB", "CAA", "DS", "SOA", "CNAME", "TYPE65280"}
	for _, name := range []string{"backend.svc.mesh.local", "one.svc.mesh.local", "six.svc.mesh.local", "both.svc.mesh.local", "backend_demo_svc_80.mesh", "upper.case.example.com"} {
		for _, how := range []string{"+notcp", "+tcp"} {
			args := []string{how}
			for _, typ := range types {
				args = append(args, name, typ)
			}
			replies := l.dig(t, args...)
			if len(replies) != len(types) {
				t.Fatalf("%s: %d answers to %d questions", name, len(replies), len(types))
			}
			for i, typ := range types {
				checkMatrix(t, replies[i], name, typ)
			}
		}
	}
	for what, c := range map[string]struct {
		args   []string
		status string
		answer []string
	}{
		"address of the mesh":              {[]string{"-x", "241.0.0.2"}, "NOERROR", []string{"one.svc.mesh.local."}},
		"IPv6 address of the mesh":         {[]string{"-x", "fd00:241::3"}, "NOERROR", []string{"six.svc.mesh.local."}},
		"address that could be the mesh's": {[]string{"-x", "241.9.9.9"}, "NXDOMAIN", nil},
		"other address":                    {[]string{"-x", "192.0.2.1"}, "SERVFAIL", nil}, // there is no upstream
		"above a name":                     {[]string{"svc.mesh.local", "A"}, "SERVFAIL", nil},
		"below a name":                     {[]string{"x.one.svc.mesh.local", "A"}, "SERVFAIL", nil},
		"unknown name":                     {[]string{"unknown.svc.mesh.local", "A"}, "SERVFAIL", nil},
		"class CHAOS":                      {[]string{"version.bind", "TXT", "CH"}, "REFUSED", nil},
		"opcode of updates":                {[]string{"+opcode=UPDATE", "one.svc.mesh.local", "A"}, "NOTIMP", nil},
		"mixed case":                       {[]string{"OnE.sVc.MeSh.LoCaL", "A"}, "NOERROR", []string{"241.0.0.2"}},
	} {
		r := l.digOne(t, c.args...)
		if r.Data.Status != c.status || !slices.Equal(r.addrs(), c.answer) {
			t.Errorf("%s: got %s %v, want %s %v", what, r.Data.Status, r.addrs(), c.status, c.answer)
		}
	}
}

func checkMatrix(t *testing.T, r *reply, name, typ string) {
	t.Helper()
	want := addrsOf(t, name, typ == "A" || typ == "ANY", typ == "AAAA" || typ == "ANY")
	at := fmt.Sprintf("%s %s over %s", name, typ, r.Protocol)
	if r.Data.Status != "NOERROR" || !r.has("aa") || !r.has("ra") || !r.has("rd") || r.has("ad") || r.has("tc") {
		t.Errorf("%s: %s, flags %s", at, r.Data.Status, r.Data.Flags)
	}
	if got := r.addrs(); !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", at, got, want)
	}
	for _, rr := range r.Data.Answer {
		if f := strings.Fields(rr); f[0] != name+"." || f[1] != "30" || f[2] != "IN" || (typ != "ANY" && f[3] != typ) {
			t.Errorf("%s: record %s", at, rr)
		}
	}
	// What is not there may be remembered as such for the time of SOA, which has to be there.
	soa := len(r.Data.Authority) == 1 && strings.Fields(r.Data.Authority[0])[3] == "SOA"
	if soa != (len(want) == 0) {
		t.Errorf("%s: %d records, authority %v", at, len(want), r.Data.Authority)
	}
}

// TestEDNS is §5.4 item 4 of the contract, and what is usual besides.
func TestEDNS(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	for what, c := range map[string]struct {
		args   []string
		status string
		opt    bool
		do     bool
	}{
		"none":               {[]string{"+noedns"}, "NOERROR", false, false},
		"version 0":          {[]string{"+edns=0"}, "NOERROR", true, false},
		"version 1":          {[]string{"+edns=1", "+noednsnegotiation"}, "BADVERS", true, false},
		"version 1, then 0":  {[]string{"+edns=1"}, "NOERROR", true, false},
		"version 255":        {[]string{"+edns=255", "+noednsnegotiation"}, "BADVERS", true, false},
		"DNSSEC OK":          {[]string{"+dnssec"}, "NOERROR", true, true},
		"unknown option":     {[]string{"+ednsopt=65001:c0ffee"}, "NOERROR", true, false},
		"unknown flags":      {[]string{"+ednsflags=0x7fff"}, "NOERROR", true, false},
		"client subnet":      {[]string{"+subnet=192.0.2.0/24"}, "NOERROR", true, false},
		"cookie":             {[]string{"+cookie=0123456789abcdef"}, "NOERROR", true, false},
		"padding":            {[]string{"+padding=128"}, "NOERROR", true, false},
		"keepalive over TCP": {[]string{"+tcp", "+keepalive"}, "NOERROR", true, false},
		"size 0":             {[]string{"+bufsize=0", "+edns=0"}, "NOERROR", true, false},
		"checking disabled":  {[]string{"+cdflag", "+adflag"}, "NOERROR", true, false},
	} {
		r := l.digOne(t, append([]string{"+nocookie", "one.svc.mesh.local", "A"}, c.args...)...)
		if r.Data.Status != c.status || (r.Data.OPT != nil) != c.opt {
			t.Errorf("%s: got %s, OPT %v", what, r.Data.Status, r.Data.OPT)
		}
		if c.status == "NOERROR" && !slices.Equal(r.addrs(), []string{"241.0.0.2"}) {
			t.Errorf("%s: addresses %v", what, r.addrs())
		}
		if opt := r.Data.OPT; opt != nil && (opt.EDNS.Version != 0 || opt.EDNS.UDP != 1232 || strings.Contains(opt.EDNS.Flags, "do") != c.do) {
			t.Errorf("%s: OPT %+v", what, opt.EDNS)
		}
	}
	if r := l.digOne(t, "unknown.example.com", "A"); r.Data.OPT == nil || !strings.HasPrefix(r.Data.OPT.EDNS.EDE.Code, "22 ") {
		t.Errorf("without upstreams: OPT %+v, want extended error 22", r.Data.OPT)
	}
}

// TestSizes is §5.4 item 3: as many addresses as fit, that there are more, and all over TCP.
func TestSizes(t *testing.T) {
	const name, all = "many.svc.mesh.local", 60
	l := newLab(t)
	l.start(t, nil)
	for _, c := range []struct {
		args  []string
		limit int
		whole bool
	}{
		{[]string{"+noedns"}, 512, false},
		{[]string{"+bufsize=512"}, 512, false},
		{[]string{"+bufsize=100"}, 512, false}, // RFC 6891 §6.2.3
		{[]string{"+bufsize=600"}, 600, false},
		{[]string{"+bufsize=1232"}, 1232, true},
		{[]string{"+bufsize=4096"}, 4096, true},
		{[]string{"+bufsize=65535"}, 4096, true},
		{[]string{"+tcp"}, 65535, true},
		{[]string{"+tcp", "+noedns"}, 65535, true},
	} {
		r := l.digOne(t, append([]string{"+ignore", name, "A"}, c.args...)...)
		got := r.addrs()
		if r.has("tc") == c.whole || r.bytes(t) > c.limit || (len(got) == all) != c.whole || len(slices.Compact(got)) != len(r.Data.Answer) {
			t.Errorf("%v: %d addresses in %d bytes, flags %s", c.args, len(got), r.bytes(t), r.Data.Flags)
		}
		// A record has 16 bytes: fewer than fit would be lost for no reason.
		if !c.whole && r.bytes(t)+16 <= c.limit {
			t.Errorf("%v: %d of %d bytes used", c.args, r.bytes(t), c.limit)
		}
	}
	// Left to itself dig comes back over TCP.
	if r := l.digOne(t, "+noedns", name, "A"); r.Protocol != "TCP" || !slices.Equal(r.addrs(), addrsOf(t, name, true, false)) {
		t.Errorf("after a cut answer: %d addresses over %s", len(r.addrs()), r.Protocol)
	}
}

// TestKeepOpen asks all over one connection, one after the other.
func TestKeepOpen(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	var args, want []string
	for range 20 {
		for _, r := range records() {
			args = append(args, r.Name, "A")
			want = append(want, fmt.Sprint(addrsOf(t, r.Name, true, false)))
		}
	}
	replies := l.dig(t, append([]string{"+tcp", "+keepopen"}, args...)...)
	var got []string
	for _, r := range replies {
		got = append(got, strings.ReplaceAll(fmt.Sprint(r.addrs()), "<nil>", "[]"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d answers %.300q, want %d %.300q", len(got), got, len(want), want)
	}
}

// TestLetterCase has dig check the question of many spellings.
func TestLetterCase(t *testing.T) {
	const name = "both.svc.mesh.local"
	l := newLab(t)
	l.start(t, nil)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var args, spelled []string
	for range 200 {
		b := []byte(name)
		for i := range b {
			if b[i] != '.' && random.IntN(2) == 1 {
				b[i] -= 'a' - 'A'
			}
		}
		spelled = append(spelled, string(b))
		args = append(args, string(b), "A")
	}
	for i, r := range l.dig(t, args...) {
		if q := strings.Fields(r.Data.Question[0])[0]; q != spelled[i]+"." || !slices.Equal(r.addrs(), []string{"241.0.0.4"}) ||
			strings.Fields(r.Data.Answer[0])[0] != spelled[i]+"." {
			t.Errorf("seed %d: %s: question %s, answer %v", seed, spelled[i], q, r.Data.Answer)
		}
	}
}
