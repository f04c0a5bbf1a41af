package mtls

import (
	"slices"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func userLog(t testing.TB, filter *accesslogv3.AccessLogFilter) *accesslogv3.AccessLog {
	t.Helper()
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.file", Filter: filter,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(t, &filelogv3.FileAccessLog{Path: "/dev/stdout"})},
	}
}

func httpFilter(t testing.TB, hcm *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	t.Helper()
	hcm.StatPrefix = "localhost_8080"
	return &listenerv3.Filter{Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, hcm)}}
}

func tcpFilter(t testing.TB, proxy *tcpv3.TcpProxy) *listenerv3.Filter {
	t.Helper()
	proxy.StatPrefix = "localhost_8080"
	return &listenerv3.Filter{Name: "envoy.filters.network.tcp_proxy", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, proxy)}}
}

// chains are those of a mode (contract effects-security.md §1.3), each with what filter makes.
func chains(t testing.TB, mode mtlsreport.Mode, filter func() *listenerv3.Filter) []*listenerv3.FilterChain {
	t.Helper()
	clear := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{filter()}}
	ended := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{filter()}, TransportSocket: &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(t, &tlsv3.DownstreamTlsContext{})},
	}}
	switch mode {
	case mtlsreport.Off:
		return []*listenerv3.FilterChain{clear}
	case mtlsreport.Strict:
		return []*listenerv3.FilterChain{ended}
	}
	foreign := proto.CloneOf(clear)
	clear.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}
	foreign.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	ended.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "tls", ApplicationProtocols: []string{"kuma"}}
	return []*listenerv3.FilterChain{clear, foreign, ended}
}

func inboundListener(chains []*listenerv3.FilterChain) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: "inbound:10.0.0.1:80", TrafficDirection: corev3.TrafficDirection_INBOUND, FilterChains: chains,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
		}}},
	}
}

func rewritten(t testing.TB, in *listenerv3.Listener) (*listener, *listenerv3.Listener) {
	t.Helper()
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	l, next, err := rewriter{"ads_cluster"}.listener(in.Name, b)
	if err != nil {
		t.Fatal(err)
	}
	out := &listenerv3.Listener{}
	if err := proto.Unmarshal(next, out); err != nil {
		t.Fatal(err)
	}
	return l, out
}

// ours takes the logs that were added out of a list and returns their names.
func ours(t testing.TB, logs *[]*accesslogv3.AccessLog) (names []string) {
	t.Helper()
	*logs = slices.DeleteFunc(*logs, func(l *accesslogv3.AccessLog) bool {
		var common *grpclogv3.CommonGrpcAccessLogConfig
		switch m, err := l.GetTypedConfig().UnmarshalNew(); m := m.(type) {
		case *grpclogv3.HttpGrpcAccessLogConfig:
			common = m.CommonConfig
		case *grpclogv3.TcpGrpcAccessLogConfig:
			common = m.CommonConfig
		default:
			if err != nil {
				t.Fatal(err)
			}
			return false
		}
		if common.GrpcService.GetEnvoyGrpc().GetClusterName() != "ads_cluster" || common.TransportApiVersion != corev3.ApiVersion_V3 {
			t.Errorf("the log goes to %v", common)
		}
		names = append(names, l.Name+" "+common.LogName)
		return true
	})
	return names
}

// take undoes what was done to the first filter of a chain and returns the names of its logs, and their filter.
func take(t testing.TB, chain *listenerv3.FilterChain) (names []string) {
	t.Helper()
	m, err := chain.Filters[0].GetTypedConfig().UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	switch f := m.(type) {
	case *hcmv3.HttpConnectionManager:
		names = ours(t, &f.AccessLog)
		if len(names) > 0 && !f.GetAccessLogOptions().GetFlushAccessLogOnNewRequest() {
			t.Error("no request is told of as it begins")
		}
		f.AccessLogOptions = nil
	case *tcpv3.TcpProxy:
		names = ours(t, &f.AccessLog)
		if len(names) > 0 && !f.GetAccessLogOptions().GetFlushAccessLogOnConnected() {
			t.Error("no connection is told of as it begins")
		}
		f.AccessLogOptions = nil
	}
	chain.Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, m)}
	return names
}

// TestLogsAndNothingElse: what is added can be taken away again, and then the listener is what the control plane sent.
func TestLogsAndNothingElse(t *testing.T) {
	filters := map[string]func() *listenerv3.Filter{
		"envoy.access_loggers.http_grpc": func() *listenerv3.Filter { return httpFilter(t, &hcmv3.HttpConnectionManager{}) },
		"envoy.access_loggers.tcp_grpc":  func() *listenerv3.Filter { return tcpFilter(t, &tcpv3.TcpProxy{}) },
	}
	for logger, filter := range filters {
		for mode, want := range map[mtlsreport.Mode][][]string{
			mtlsreport.Off:    {nil},
			mtlsreport.Strict: {nil},
			mtlsreport.Permissive: {
				{logger + " plaintext inbound:10.0.0.1:80"}, {logger + " foreign-tls inbound:10.0.0.1:80"}, nil,
			},
		} {
			t.Run(logger+"/"+string(mode), func(t *testing.T) {
				in := inboundListener(chains(t, mode, filter))
				l, out := rewritten(t, in)
				if l.mode != mode || l.address.String() != "10.0.0.1:80" {
					t.Errorf("read as %+v", l)
				}
				var of []string
				if mode != mtlsreport.Off {
					of = []string{"envoy.access_loggers.tcp_grpc listener inbound:10.0.0.1:80"}
				}
				if got := ours(t, &out.AccessLog); !slices.Equal(got, of) {
					t.Errorf("logs of the listener: %q, want %q", got, of)
				}
				for i, c := range out.FilterChains {
					if got := take(t, c); !slices.Equal(got, want[i]) {
						t.Errorf("logs of chain %d: %q, want %q", i, got, want[i])
					}
				}
				if len(out.AccessLog) == 0 {
					out.AccessLog = nil
				}
				if d := cmp.Diff(in, out, protocmp.Transform()); d != "" {
					t.Errorf("what is left differs:\n%s", d)
				}
			})
		}
	}
	if l, _ := rewritten(t, inboundListener(chains(t, mtlsreport.Permissive, filters["envoy.access_loggers.http_grpc"]))); !slices.Equal(slices.Compact(l.requests), []string{"localhost_8080"}) {
		t.Errorf("statistics of requests: %q", l.requests)
	}
}

// TestLogsOfUsers go on hearing of ends alone, unless they heard of more before.
func TestLogsOfUsers(t *testing.T) {
	only := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_TraceableFilter{TraceableFilter: &accesslogv3.TraceableFilter{}}}
	without := func(begin dataaccesslogv3.AccessLogType) *accesslogv3.AccessLogFilter {
		return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
			LogTypeFilter: &accesslogv3.LogTypeFilter{Types: []dataaccesslogv3.AccessLogType{begin}, Exclude: true},
		}}
	}
	both := func(a, b *accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
		return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: []*accesslogv3.AccessLogFilter{a, b}}}}
	}
	start, connected := without(dataaccesslogv3.AccessLogType_DownstreamStart), without(dataaccesslogv3.AccessLogType_TcpUpstreamConnected)
	for name, tt := range map[string]struct {
		filter *listenerv3.Filter
		want   []*accesslogv3.AccessLogFilter
		older  bool // uses the deprecated fields, which exclude the newer
	}{
		"http": {
			httpFilter(t, &hcmv3.HttpConnectionManager{AccessLog: []*accesslogv3.AccessLog{userLog(t, nil), userLog(t, only)}}),
			[]*accesslogv3.AccessLogFilter{start, both(only, start)},
			false,
		},
		"tcp": {
			tcpFilter(t, &tcpv3.TcpProxy{AccessLog: []*accesslogv3.AccessLog{userLog(t, nil), userLog(t, only)}}),
			[]*accesslogv3.AccessLogFilter{connected, both(only, connected)},
			false,
		},
		"http, hears of beginnings": {
			httpFilter(t, &hcmv3.HttpConnectionManager{
				AccessLog:        []*accesslogv3.AccessLog{userLog(t, nil)},
				AccessLogOptions: &hcmv3.HttpConnectionManager_HcmAccessLogOptions{FlushAccessLogOnNewRequest: true, AccessLogFlushInterval: durationpb.New(1e9)},
			}),
			[]*accesslogv3.AccessLogFilter{nil},
			false,
		},
		"http, by the older field": {
			httpFilter(t, &hcmv3.HttpConnectionManager{AccessLog: []*accesslogv3.AccessLog{userLog(t, nil)}, FlushAccessLogOnNewRequest: true}), //nolint:staticcheck // it is what is tested
			[]*accesslogv3.AccessLogFilter{nil},
			true,
		},
		"tcp, with an interval by the older field": {
			tcpFilter(t, &tcpv3.TcpProxy{AccessLog: []*accesslogv3.AccessLog{userLog(t, nil)}, AccessLogFlushInterval: durationpb.New(1e9)}), //nolint:staticcheck // it is what is tested
			[]*accesslogv3.AccessLogFilter{connected},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, out := rewritten(t, inboundListener(chains(t, mtlsreport.Permissive, func() *listenerv3.Filter { return proto.CloneOf(tt.filter) })))
			m, err := out.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			var logs []*accesslogv3.AccessLog
			var older, newer bool
			switch f := m.(type) {
			case *hcmv3.HttpConnectionManager:
				logs, older, newer = f.AccessLog, f.FlushAccessLogOnNewRequest, f.AccessLogOptions != nil //nolint:staticcheck // it is what is tested
			case *tcpv3.TcpProxy:
				logs, older, newer = f.AccessLog, f.FlushAccessLogOnConnected, f.AccessLogOptions != nil //nolint:staticcheck // it is what is tested
			}
			if older != tt.older || newer == tt.older {
				t.Errorf("older field %t, newer %t", older, newer)
			}
			if len(logs) != len(tt.want)+1 {
				t.Fatalf("%d logs", len(logs))
			}
			for i, want := range tt.want {
				if d := cmp.Diff(want, logs[i].Filter, protocmp.Transform()); d != "" {
					t.Errorf("log %d:\n%s", i, d)
				}
			}
			if err := logs[len(logs)-1].ValidateAll(); err != nil {
				t.Errorf("Envoy would refuse ours: %v", err)
			}
			// Where mTLS ends, nothing changes.
			if d := cmp.Diff(tt.filter, out.FilterChains[2].Filters[0], protocmp.Transform()); d != "" {
				t.Errorf("chain with mTLS:\n%s", d)
			}
		})
	}
}

func FuzzListener(f *testing.F) {
	for _, mode := range []mtlsreport.Mode{mtlsreport.Off, mtlsreport.Permissive, mtlsreport.Strict} {
		b, err := proto.Marshal(inboundListener(chains(f, mode, func() *listenerv3.Filter {
			return httpFilter(f, &hcmv3.HttpConnectionManager{AccessLog: []*accesslogv3.AccessLog{userLog(f, nil)}})
		})))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, next, err := rewriter{"c"}.listener("inbound:x", b)
		if err != nil || proto.Unmarshal(b, &listenerv3.Listener{}) != nil {
			return
		}
		if err := proto.Unmarshal(next, &listenerv3.Listener{}); err != nil {
			t.Fatalf("what parsed does not any more: %v", err)
		}
	})
}
