package mtls

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// BenchmarkAccessLog takes requests in clear, a hundred to a message, with what Envoy says of each beside what counts.
func BenchmarkAccessLog(b *testing.B) {
	full := func(e *dataaccesslogv3.AccessLogCommon) {
		here := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}}
		e.DownstreamLocalAddress, e.DownstreamRemoteAddress, e.UpstreamRemoteAddress, e.UpstreamLocalAddress = here, e.DownstreamDirectRemoteAddress, here, here
		e.UpstreamCluster, e.StreamId, e.RouteName = "localhost:8080", strings.Repeat("5", 36), "inbound:backend"
	}
	var entries []*dataaccesslogv3.AccessLogCommon
	for i := range 100 {
		entries = append(entries, seen(fmt.Sprintf("10.0.0.%d:%d", i%20, 1000+i%30), dataaccesslogv3.AccessLogType_DownstreamStart, full))
	}
	m, err := New(Config{Cluster: "c", Conn: &peer{}, Node: "m.n", Stats: func(context.Context, string) (io.ReadCloser, error) { return nil, io.EOF }})
	if err != nil {
		b.Fatal(err)
	}
	l, err := proto.Marshal(inboundListener(chains(b, mtlsreport.Permissive, func() *listenerv3.Filter { return httpFilter(b, &hcmv3.HttpConnectionManager{}) })))
	if err != nil {
		b.Fatal(err)
	}
	m.Listener("inbound:10.0.0.1:80", l)
	msg, take := logged(b, "plaintext inbound:10.0.0.1:80", true, entries...), m.AccessLog()
	b.ReportAllocs()
	for b.Loop() {
		if err := take(msg); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/request")
}

// BenchmarkListener rewrites a permissive listener.
func BenchmarkListener(b *testing.B) {
	l, err := proto.Marshal(inboundListener(chains(b, mtlsreport.Permissive, func() *listenerv3.Filter { return httpFilter(b, &hcmv3.HttpConnectionManager{}) })))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := (rewriter{"c"}).listener("inbound:10.0.0.1:80", l); err != nil {
			b.Fatal(err)
		}
	}
}
