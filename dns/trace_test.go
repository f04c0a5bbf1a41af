package dns

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestTrace(t *testing.T) {
	good := fake(t, func(network string, req *mdns.Msg, reply func([]byte)) {
		m := answerA(req, "192.0.2.1")
		if m.Truncated = network == "udp" && strings.HasPrefix(req.Question[0].Name, "large"); m.Truncated {
			m.Answer = nil
		}
		reply(wire(m))
	})
	refusing := fake(t, rcodeReply(mdns.RcodeRefused))
	gone := dead(t)
	s := startMesh(t, Config{SearchDomains: true})
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{gone, refusing.addr, good.addr}, search: []string{"\x04corp\x07example\x00"}})
	ask(t, s, "udp", question("kept.example", mdns.TypeA))
	s.fwd.list.Load().servers[0].good() // it was found dead
	before := s.Status().Cache
	for _, tt := range []struct {
		name    string
		qtype   uint16
		code    string
		records []string
		steps   []string // "step proto: result", the result as a prefix
	}{
		{"V4only.mesh", mdns.TypeA, "NOERROR", []string{"V4only.mesh. 30 IN A 241.0.0.9"}, []string{"table : name of the mesh"}},
		{"v4only.mesh", mdns.TypeAAAA, "NOERROR", nil, []string{"table : name of the mesh without records of this type"}},
		{"9.0.0.241.in-addr.arpa", mdns.TypePTR, "NOERROR", []string{"9.0.0.241.in-addr.arpa. 30 IN PTR v4only.mesh."}, []string{"table : address of the mesh"}},
		{"1.2.3.255.in-addr.arpa", mdns.TypePTR, "NXDOMAIN", nil, []string{"table : an address that only a mesh can have"}},
		{"v4only.mesh.corp.example", mdns.TypeA, "NXDOMAIN", nil, []string{"table : not a name", "search : v4only.mesh. is a name of the mesh"}},
		{"kept.example", mdns.TypeA, "NOERROR", []string{"kept.example. 60 IN A 192.0.2.1"}, []string{"table : not a name", "cache : answer of "}},
		{"example", mdns.TypeAXFR, "REFUSED", nil, []string{"table : refused: type AXFR"}},
		{
			"x.example", mdns.TypeA, "NOERROR",
			[]string{"x.example. 60 IN A 192.0.2.1"},
			[]string{"table : not a name", "cache : no answer", "upstream udp: ask " + gone.String() + " over udp: ", "upstream udp: REFUSED", "upstream udp: NOERROR"},
		},
		{
			"large.example", mdns.TypeA, "NOERROR",
			[]string{"large.example. 60 IN A 192.0.2.1"},
			[]string{
				"table : not a name", "cache : no answer", "upstream udp: REFUSED", "upstream udp: NOERROR, truncated",
				"table : not a name", "cache : no answer", "upstream tcp: REFUSED", "upstream tcp: NOERROR",
			},
		},
	} {
		got := s.Trace(t.Context(), tt.name, tt.qtype)
		var steps []string
		for i, st := range got.Steps {
			line := st.Step + " " + st.Proto + ": " + st.Result
			if i < len(tt.steps) && strings.HasPrefix(line, tt.steps[i]) {
				line = tt.steps[i]
			}
			steps = append(steps, line)
		}
		if got.Code != tt.code || !slices.Equal(got.Records, tt.records) || !slices.Equal(steps, tt.steps) {
			t.Errorf("%s: got %s %q\n%s\nwant %s %q\n%s", tt.name, got.Code, got.Records, strings.Join(steps, "\n"), tt.code, tt.records, strings.Join(tt.steps, "\n"))
		}
	}
	if after := s.Status().Cache; after != before {
		t.Errorf("the cache was %+v and is %+v", before, after)
	}
	for i := range s.fwd.cache.shards {
		for _, k := range s.fwd.cache.shards[i].entries {
			if k.used {
				t.Errorf("a trace counts as a question for %q", k.key)
			}
		}
	}
	if got := s.Trace(t.Context(), "a..b", mdns.TypeA); got.Error == "" || got.Code != "" {
		t.Errorf("no name: got %+v", got)
	}
	text, err := json.Marshal(s.Trace(t.Context(), ".", mdns.TypeNS))
	if err != nil || !strings.Contains(string(text), `"upstream":"`+good.addr.String()) {
		t.Errorf("json %s, %v", text, err)
	}
}

func TestTraceWithoutTableOrUpstream(t *testing.T) {
	s := start(t, Config{})
	for name, want := range map[string]string{
		"backend.svc.mesh.local": "table: not loaded yet: the name may be the mesh's, so no upstream is asked",
		"x.example":              "table: not loaded yet, cache: no answer is kept, upstream: none is known or all are down",
	} {
		got := s.Trace(t.Context(), name, mdns.TypeA)
		var steps []string
		for _, st := range got.Steps {
			steps = append(steps, st.Step+": "+st.Result)
		}
		if all := strings.Join(steps, ", "); all != want || got.Code != "SERVFAIL" {
			t.Errorf("%s: got %s, %s, want %s", name, got.Code, all, want)
		}
	}
}

func TestStatus(t *testing.T) {
	good, gone := fake(t, nil), dead(t)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "search corp.example\n")
	if st := start(t, Config{ResolvConf: path}).Status(); st.Table.Loaded || st.ResolvConf != path || !slices.Equal(st.SearchDomains, []string{"corp.example"}) || len(st.Upstreams) != 0 {
		t.Errorf("at start: %+v", st)
	}
	s := start(t, Config{Upstreams: []netip.AddrPort{good.addr}, CacheBytes: 80_000, QueryLog: QueryLogSample})
	s.SetTableSource("relay")
	s.SetTable(NewTable(records(), DefaultTTL))
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{gone, good.addr, s.Addrs()[0]}})
	for range 3 {
		ask(t, s, "udp", question("x.example", mdns.TypeA))
	}
	st := s.Status()
	if st.Table.Names != 5 || st.Table.Loads != 1 || st.Table.Source != "relay" || st.Table.Changed == nil {
		t.Errorf("table %+v", st.Table)
	}
	if st.Cache.MaxBytes != 80_000 || st.Cache.Entries != 1 || st.Cache.Hits != 2 || !slices.Equal(st.Addresses, s.Addrs()) || st.MaxWaiting != 512 {
		t.Errorf("got %+v", st)
	}
	if len(st.Upstreams) != 3 {
		t.Fatalf("upstreams %+v", st.Upstreams)
	}
	a, b, c := st.Upstreams[0], st.Upstreams[1], st.Upstreams[2]
	if a.Address != gone || a.State != "down" || a.Failures != 1 || !strings.Contains(a.LastError, "refused") || a.LastGood != nil {
		t.Errorf("dead upstream %+v", a)
	}
	if b.Address != good.addr || b.State != "up" || b.Queries != 1 || b.Failures != 0 || b.LastGood == nil || time.Since(*b.LastGood) > time.Minute {
		t.Errorf("good upstream %+v", b)
	}
	if c.State != "self" {
		t.Errorf("own address %+v", c)
	}
	text, err := json.Marshal(st)
	if err != nil || !strings.Contains(string(text), `"queryLog":{"mode":"sample","dropped":0}`) {
		t.Errorf("json %s, %v", text, err)
	}
}

// The metrics of an upstream go with it.
func TestMetricsOfUpstreams(t *testing.T) {
	reg := prometheus.NewRegistry()
	good, gone := fake(t, nil), dead(t)
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{gone, good.addr}, Metrics: reg})
	ask(t, s, "udp", question("x.example", mdns.TypeA))
	ask(t, s, "udp", question("x.example", mdns.TypeA))
	waitFor(t, func() bool { return gather(t, reg)["kuma_dp_dns_request_duration_seconds"] == 2 }) // counted after they are sent
	for name, want := range map[string]float64{
		"kuma_dp_dns_cache_hits_total":                                      1,
		"kuma_dp_dns_cache_misses_total":                                    1,
		"kuma_dp_dns_upstream_failures_total " + gone.String():              1,
		"kuma_dp_dns_upstream_failures_total " + good.addr.String():         0,
		"kuma_dp_dns_upstream_latency_seconds " + good.addr.String() + " n": 1,
		"kuma_dp_dns_queries_total A upstream":                              2,
		"kuma_dp_dns_queries_total A local":                                 0,
	} {
		if got, ok := gatherAll(t, reg)[name]; got != want || !ok {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{good.addr}})
	got := gatherAll(t, reg)
	for _, name := range []string{"kuma_dp_dns_upstream_failures_total ", "kuma_dp_dns_upstream_latency_seconds "} {
		if _, ok := got[name+gone.String()]; ok {
			t.Errorf("%s: still there for an upstream that is not asked any more", name)
		}
		if _, ok := got[name+good.addr.String()]; !ok {
			t.Errorf("%s: gone for an upstream that is asked", name)
		}
	}
}

// gatherAll is gather with the counts of summaries.
func gatherAll(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	out := gather(t, reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Summary != nil {
				out[f.GetName()+" "+m.Label[0].GetValue()+" n"] = float64(m.Summary.GetSampleCount())
			}
		}
	}
	return out
}
