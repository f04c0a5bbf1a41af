package mtls

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

var epoch = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// What Envoy 1.40 says of refused handshakes.
const (
	saidHTTP   = "TLS_error:|268435612:SSL_routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end"
	saidNoCert = "TLS_error:|268435648:SSL_routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:peer_did_not_provide_required_client_certificate:TLS_error_end"
)

// seen is an entry as Envoy sends it, of a peer "address:port".
func seen(peer string, kind dataaccesslogv3.AccessLogType, change ...func(*dataaccesslogv3.AccessLogCommon)) *dataaccesslogv3.AccessLogCommon {
	ap := netip.MustParseAddrPort(peer)
	e := &dataaccesslogv3.AccessLogCommon{
		AccessLogType: kind, StartTime: timestamppb.New(epoch),
		DownstreamDirectRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: ap.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(ap.Port())},
		}}},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func refused(why string) func(*dataaccesslogv3.AccessLogCommon) {
	return func(e *dataaccesslogv3.AccessLogCommon) {
		e.DownstreamTransportFailureReason = why
		e.TlsProperties = &dataaccesslogv3.TLSProperties{TlsVersion: dataaccesslogv3.TLSProperties_TLSv1_2}
	}
}

func unmatched(why string) func(*dataaccesslogv3.AccessLogCommon) {
	return func(e *dataaccesslogv3.AccessLogCommon) {
		e.DownstreamTransportFailureReason = why
		e.ResponseFlags = &dataaccesslogv3.ResponseFlags{NoRouteFound: true}
	}
}

// message is what Envoy sends first on a stream.
func logged(t testing.TB, log string, http bool, list ...*dataaccesslogv3.AccessLogCommon) []byte {
	t.Helper()
	m := &alsv3.StreamAccessLogsMessage{Identifier: &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: "n"}, LogName: log}}
	if http {
		var entries []*dataaccesslogv3.HTTPAccessLogEntry
		for _, c := range list {
			entries = append(entries, &dataaccesslogv3.HTTPAccessLogEntry{CommonProperties: c})
		}
		m.LogEntries = &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries}}
	} else {
		var entries []*dataaccesslogv3.TCPAccessLogEntry
		for _, c := range list {
			entries = append(entries, &dataaccesslogv3.TCPAccessLogEntry{CommonProperties: c})
		}
		m.LogEntries = &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: entries}}
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// event is a message of one of the three logs of an inbound, a second after the one before.
type event struct {
	of   string
	http bool
	e    *dataaccesslogv3.AccessLogCommon
}

func inboundAfter(t *testing.T, events ...event) *inbound {
	t.Helper()
	in := newInbound(listener{address: netip.MustParseAddrPort("10.0.0.1:80"), mode: mtlsreport.Permissive}, epoch)
	for i, ev := range events {
		of := ""
		if err := entries(logged(t, logName(ev.of, "inbound:10.0.0.1:80"), ev.http, ev.e), func(log string) { of, _ = splitLogName(log) }, func(e entry) {
			in.take(of, e, epoch.Add(time.Duration(i+1)*time.Second))
		}); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func describe(in mtlsreport.Inbound) string {
	var peers []string
	for _, p := range in.Peers {
		one := fmt.Sprintf("%s %s %d/%d open %d last %ds", p.Address, p.Kind, p.Connections, p.Requests, p.Open, int(p.LastSeen.Sub(epoch).Seconds()))
		if p.Reason != "" {
			one += " " + p.Reason
		}
		peers = append(peers, one)
	}
	slices.Sort(peers)
	return fmt.Sprintf("plaintext %d/%d foreign %d/%d refused %d: %s",
		in.Plaintext.Connections, in.Plaintext.Requests, in.ForeignTLS.Connections, in.ForeignTLS.Requests, in.Refused, strings.Join(peers, ", "))
}

func TestCount(t *testing.T) {
	const (
		plaintext = string(mtlsreport.Plaintext)
		foreign   = string(mtlsreport.ForeignTLS)
		a, b      = "10.0.0.9:1000", "10.0.0.9:1001"
		end       = dataaccesslogv3.AccessLogType_NotSet
		request   = dataaccesslogv3.AccessLogType_DownstreamStart
		connected = dataaccesslogv3.AccessLogType_TcpUpstreamConnected
	)
	for _, tt := range []struct {
		name   string
		events []event
		want   string
	}{
		{"nothing", nil, "plaintext 0/0 foreign 0/0 refused 0: "},
		{
			"two requests of a connection that goes on",
			[]event{{plaintext, true, seen(a, request)}, {plaintext, true, seen(a, request)}},
			"plaintext 1/2 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/2 open 1 last 60s",
		},
		{
			"it ends",
			[]event{{plaintext, true, seen(a, request)}, {ofListener, false, seen(a, end)}},
			"plaintext 1/1 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/1 open 0 last 2s",
		},
		{
			"the end is told first",
			[]event{{ofListener, false, seen(a, end)}, {plaintext, true, seen(a, request)}},
			"plaintext 1/1 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/1 open 0 last 2s",
		},
		{
			"the last request is told after the end",
			[]event{{plaintext, true, seen(a, request)}, {ofListener, false, seen(a, end)}, {plaintext, true, seen(a, request)}},
			"plaintext 1/2 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/2 open 0 last 3s",
		},
		{
			"two requests are told after the end",
			[]event{{ofListener, false, seen(a, end)}, {plaintext, true, seen(a, request)}, {plaintext, true, seen(a, request)}},
			"plaintext 1/2 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/2 open 0 last 3s",
		},
		{
			"an end, and later another connection from the same port",
			[]event{{ofListener, false, seen(a, end)}, {plaintext, true, seen(a, request, func(e *dataaccesslogv3.AccessLogCommon) {
				e.StartTime = timestamppb.New(epoch.Add(time.Minute))
			})}},
			"plaintext 1/1 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/1 open 1 last 60s",
		},
		{
			"tcp, both kinds",
			[]event{{plaintext, false, seen(a, connected)}, {foreign, false, seen(b, connected)}, {ofListener, false, seen(b, end)}},
			"plaintext 1/0 foreign 1/0 refused 0: 10.0.0.9 foreign-tls 1/0 open 0 last 3s, 10.0.0.9 plaintext 1/0 open 1 last 60s",
		},
		{
			"the workload is not there",
			[]event{{plaintext, false, seen(a, dataaccesslogv3.AccessLogType_TcpConnectionEnd)}, {ofListener, false, seen(a, end)}},
			"plaintext 1/0 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/0 open 0 last 1s",
		},
		{
			"TLS where requests are expected",
			[]event{{foreign, true, seen(a, dataaccesslogv3.AccessLogType_DownstreamEnd)}},
			"plaintext 0/0 foreign 1/0 refused 0: 10.0.0.9 foreign-tls 1/0 open 0 last 1s",
		},
		{
			"the port comes again in another way",
			[]event{{plaintext, false, seen(a, connected)}, {foreign, false, seen(a, connected)}},
			"plaintext 1/0 foreign 1/0 refused 0: 10.0.0.9 foreign-tls 1/0 open 1 last 60s, 10.0.0.9 plaintext 1/0 open 0 last 1s",
		},
		{
			"mTLS that ends well, and a connection without a byte",
			[]event{{ofListener, false, seen(a, end, refused(""))}, {ofListener, false, seen(b, end)}},
			"plaintext 0/0 foreign 0/0 refused 0: ",
		},
		{
			"refused",
			[]event{
				{ofListener, false, seen(a, end, refused(saidHTTP))},
				{ofListener, false, seen(b, end, refused(saidNoCert))},
				{ofListener, false, seen("[fd00::9]:7", end, refused("who knows"))},
			},
			"plaintext 0/0 foreign 0/0 refused 3: 10.0.0.9 refused-no-certificate 1/0 open 0 last 2s it showed no certificate, " +
				"10.0.0.9 refused-plaintext 1/0 open 0 last 1s it sent an HTTP request in clear, fd00::9 refused 1/0 open 0 last 3s who knows",
		},
		{
			"no chain is for it",
			[]event{{ofListener, false, seen(a, end, unmatched(""))}, {ofListener, false, seen("10.0.0.8:1", end, unmatched(saidHTTP))}},
			"plaintext 0/0 foreign 0/0 refused 2: 10.0.0.8 refused-plaintext 1/0 open 0 last 2s it sent an HTTP request in clear, 10.0.0.9 refused-plaintext 1/0 open 0 last 1s it does not speak TLS",
		},
		{
			"a reason that is no failure of a handshake",
			[]event{{ofListener, false, seen(a, end, func(e *dataaccesslogv3.AccessLogCommon) { e.DownstreamTransportFailureReason = saidHTTP })}},
			"plaintext 0/0 foreign 0/0 refused 0: ",
		},
		{
			"an IPv4 address in the form of IPv6",
			[]event{{plaintext, false, seen("[::ffff:10.0.0.9]:1", connected)}},
			"plaintext 1/0 foreign 0/0 refused 0: 10.0.0.9 plaintext 1/0 open 1 last 60s",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := describe(inboundAfter(t, tt.events...).report(epoch.Add(time.Minute))); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestBounds: a crowd costs no more than the bounds, what is counted stays, and who is still there is forgotten last.
func TestBounds(t *testing.T) {
	in := newInbound(listener{address: netip.MustParseAddrPort("10.0.0.1:80"), mode: mtlsreport.Permissive}, epoch)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	}
	const crowd = maxOpen + 5000
	in.take(string(mtlsreport.Plaintext), entry{remote: at(1 << 20), kind: upstreamConnected}, epoch)
	for i := range crowd {
		now := epoch.Add(time.Duration(i) * time.Millisecond)
		in.take(string(mtlsreport.Plaintext), entry{remote: at(i), kind: connectionEnd}, now)
		in.take(ofListener, entry{remote: at(i)}, now)
	}
	for i := range crowd {
		in.take(string(mtlsreport.ForeignTLS), entry{remote: netip.AddrPortFrom(at(1<<20).Addr(), uint16(i+2)), kind: upstreamConnected}, epoch)
	}
	if len(in.peers) > mtlsreport.MaxPeers || len(in.open) > maxOpen || len(in.over) > maxOver {
		t.Errorf("%d peers, %d open, %d over", len(in.peers), len(in.open), len(in.over))
	}
	r := in.report(epoch)
	if r.Plaintext.Connections != crowd+1 || r.ForeignTLS.Connections != crowd || int(r.Forgotten) != crowd+2-mtlsreport.MaxPeers {
		t.Errorf("plaintext %d, foreign %d, forgotten %d of %d", r.Plaintext.Connections, r.ForeignTLS.Connections, r.Forgotten, crowd)
	}
	if !slices.ContainsFunc(r.Peers, func(p mtlsreport.Peer) bool { return p.Kind == mtlsreport.Plaintext && p.Open == 1 }) {
		t.Error("the one that is still there is forgotten")
	}
	if p := r.Peers[len(r.Peers)-1]; p.Open > 0 {
		t.Errorf("the first to name is not the last: %+v", p)
	}
}

func TestReasonIsBounded(t *testing.T) {
	kind, reason := refusal(entry{failure: strings.Repeat("ä", mtlsreport.MaxReason)})
	if kind != mtlsreport.RefusedOtherwise || len(reason) > mtlsreport.MaxReason || strings.ToValidUTF8(reason, "") != reason {
		t.Errorf("%s %q", kind, reason)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(logged(f, "plaintext x", true, seen("10.0.0.9:1", dataaccesslogv3.AccessLogType_DownstreamStart)))
	f.Add(logged(f, "listener x", false, seen("[fd00::1]:1", dataaccesslogv3.AccessLogType_NotSet, refused(saidHTTP))))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newInbound(listener{address: netip.MustParseAddrPort("10.0.0.1:80"), mode: mtlsreport.Permissive}, epoch)
		of := ""
		_ = entries(b, func(log string) { of, _ = splitLogName(log) }, func(e entry) { in.take(of, e, epoch) })
		r := &mtlsreport.Report{Inbounds: []mtlsreport.Inbound{in.report(epoch)}}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mtlsreport.Decode(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
