package mtls

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a control plane, without a network, that answers with errors in turn, and then with none.
type peer struct {
	t       *testing.T
	answers []error

	mu   sync.Mutex
	got  []*mtlsreport.Report
	at   []time.Time
	meta metadata.MD
}

func (p *peer) Invoke(ctx context.Context, method string, args, _ any, _ ...grpc.CallOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := "/kumadp.v1alpha1.MTLSReports/Put"; method != want {
		p.t.Errorf("method %s, want %s", method, want)
	}
	p.meta, _ = metadata.FromOutgoingContext(ctx)
	r, err := mtlsreport.Decode(args.(*wrapperspb.BytesValue).GetValue())
	if err != nil {
		p.t.Error(err)
	}
	p.got, p.at = append(p.got, r), append(p.at, time.Now())
	if len(p.answers) > 0 {
		err, p.answers = p.answers[0], p.answers[1:]
		return err
	}
	return nil
}

func (p *peer) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams here")
}

// calls are the reports so far.
func (p *peer) calls() ([]*mtlsreport.Report, []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got, p.at
}

const someStats = `listener.10.0.0.1_80.downstream_cx_active: 2
listener.10.0.0.1_80.ssl.handshake: 3
listener.10.0.0.1_81.ssl.handshake: 7
http.localhost_8080.downstream_rq_total: 12
a line that is none
http.other.downstream_rq_total: lots
`

func monitor(t *testing.T, p *peer, stats string) *Monitor {
	t.Helper()
	m, err := New(Config{
		Cluster: "ads_cluster", Conn: p, Node: "default.web-1", Token: func() (string, error) { return "secret", nil },
		Stats: func(_ context.Context, q string) (io.ReadCloser, error) {
			u, err := url.Parse(q)
			if err != nil || u.Path != "/stats" || !strings.Contains(u.Query().Get("filter"), "handshake") {
				t.Errorf("envoy is asked for %s", q)
			}
			if stats == "" {
				return nil, errors.New("envoy is away")
			}
			return io.NopCloser(strings.NewReader(stats)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func give(t *testing.T, m *Monitor, mode mtlsreport.Mode) {
	t.Helper()
	b, err := proto.Marshal(inboundListener(chains(t, mode, func() *listenerv3.Filter { return httpFilter(t, &hcmv3.HttpConnectionManager{}) })))
	if err != nil {
		t.Fatal(err)
	}
	m.Listener("inbound:10.0.0.1:80", b)
}

func visit(t *testing.T, m *Monitor, from string) {
	t.Helper()
	if err := m.AccessLog()(logged(t, "plaintext inbound:10.0.0.1:80", true, seen(from, dataaccesslogv3.AccessLogType_DownstreamStart))); err != nil {
		t.Fatal(err)
	}
}

func TestReport(t *testing.T) {
	m := monitor(t, &peer{t: t}, someStats)
	give(t, m, mtlsreport.Permissive)
	visit(t, m, "10.0.0.9:1")
	if got := m.Listener("outbound:10.0.0.1:80", []byte("x")); string(got) != "x" {
		t.Error("another listener is changed")
	}
	if got := m.Listener("inbound:passthrough:ipv4", []byte("x")); string(got) != "x" {
		t.Error("the listener of what is passed through is changed")
	}
	if got := m.Listener("inbound:10.0.0.2:80", []byte("\xff")); string(got) != "\xff" {
		t.Error("a listener that cannot be read does not pass")
	}
	r, err := m.Report(t.Context())
	if err != nil || len(r.Inbounds) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	in := r.Inbounds[0]
	if in.MTLS != (mtlsreport.Count{Connections: 3, Requests: 11}) || in.Plaintext != (mtlsreport.Count{Connections: 1, Requests: 1}) {
		t.Errorf("mTLS %+v, plaintext %+v", in.MTLS, in.Plaintext)
	}
	if state, why := in.Verdict(r.At, time.Hour); state != mtlsreport.StateWouldBreak {
		t.Errorf("%s: %s", state, why)
	}
	m.Listeners(func(string) bool { return false })
	if r, err := m.Report(t.Context()); err != nil || len(r.Inbounds) != 0 {
		t.Errorf("after its end: %+v, %v", r, err)
	}
}

// TestLostEnds: when Envoy has no connection, none is open, whatever has not been told.
func TestLostEnds(t *testing.T) {
	m := monitor(t, &peer{t: t}, "listener.10.0.0.1_80.downstream_cx_active: 0\n")
	give(t, m, mtlsreport.Permissive)
	visit(t, m, "10.0.0.9:1")
	r, err := m.Report(t.Context())
	if err != nil || r.Inbounds[0].Peers[0].Open != 0 || r.Inbounds[0].Plaintext.Connections != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReportWithoutEnvoy(t *testing.T) {
	m := monitor(t, &peer{t: t}, "")
	give(t, m, mtlsreport.Permissive)
	visit(t, m, "10.0.0.9:1")
	if r, err := m.Report(t.Context()); err == nil || len(r.Inbounds) != 1 || len(r.Inbounds[0].Peers) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// run lets a monitor run in a bubble until the test's end.
func run(t *testing.T, m *Monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// TestWhenItIsTold: somebody new is told of within a second, numbers later, and all again to a control plane that is there anew.
func TestWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t}
		m := monitor(t, p, someStats)
		run(t, m)
		synctest.Wait()
		if got, _ := p.calls(); len(got) != 0 {
			t.Fatal("told before there was anything")
		}
		give(t, m, mtlsreport.Permissive)
		synctest.Wait()
		visit(t, m, "10.0.0.9:1") // new
		time.Sleep(soon)
		synctest.Wait()
		visit(t, m, "10.0.0.9:1") // only a number
		time.Sleep(later - time.Nanosecond)
		synctest.Wait()
		got, at := p.calls()
		if len(got) != 2 || len(got[1].Inbounds[0].Peers) != 1 || at[1].Sub(at[0]) != soon {
			t.Fatalf("%d reports at %v", len(got), at)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		got, at = p.calls()
		if len(got) != 3 || got[2].Inbounds[0].Plaintext.Requests != 2 || at[2].Sub(at[1]) != later {
			t.Fatalf("%d reports at %v", len(got), at)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got, _ := p.calls(); len(got) != 3 {
			t.Fatalf("%d reports, the last without news", len(got))
		}
		m.Connected()
		synctest.Wait()
		if got, _ := p.calls(); len(got) != 4 {
			t.Fatalf("%d reports after a new connection", len(got))
		}
		if p.meta.Get("authorization")[0] != "secret" || p.meta.Get("kuma-node-id")[0] != "default.web-1" {
			t.Errorf("metadata %v", p.meta)
		}
	})
}

// TestRefusedReports: a control plane of Kuma is left alone until it is there anew; another failure is tried again ever less.
func TestRefusedReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, answers: []error{status.Error(codes.Unimplemented, "")}}
		m := monitor(t, p, someStats)
		run(t, m)
		give(t, m, mtlsreport.Permissive)
		visit(t, m, "10.0.0.9:1")
		time.Sleep(time.Hour)
		synctest.Wait()
		if got, _ := p.calls(); len(got) != 1 {
			t.Fatalf("Kuma is told %d times", len(got))
		}
		m.Connected()
		time.Sleep(later)
		synctest.Wait()
		if got, _ := p.calls(); len(got) != 2 {
			t.Fatalf("%d reports to the one that came after", len(got))
		}
		for range 20 {
			p.answers = append(p.answers, status.Error(codes.Unauthenticated, "no"))
		}
		visit(t, m, "10.0.0.8:1")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got, _ := p.calls(); len(got) < 8 || len(got) > 2+20 {
			t.Fatalf("%d reports to one that refuses", len(got))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, at := p.calls(); time.Since(at[len(at)-1]) < 20*time.Minute {
			t.Error("it goes on after the report was taken")
		}
	})
}

// TestReportFits: many inbounds with many peers are told of with fewer peers.
func TestReportFits(t *testing.T) {
	p := &peer{t: t}
	m := monitor(t, p, "listener.x: 1\n")
	now := m.now()
	for i := range 100 {
		addr, err := net.ResolveTCPAddr("tcp", "10.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		ap := addr.AddrPort()
		in := newInbound(listener{address: ap, mode: mtlsreport.Permissive}, now)
		for j := range mtlsreport.MaxPeers {
			in.peer(ap.Addr().Next().Next(), mtlsreport.Kind(strings.Repeat("k", 1+j%60)), now)
		}
		m.inbounds["inbound:"+strings.Repeat("i", i+1)] = in
	}
	if err := m.send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.calls(); len(got) != 1 || len(got[0].Inbounds) != 100 || got[0].Inbounds[0].Forgotten == 0 {
		t.Errorf("%d reports", len(got))
	}
}

// TestReportOfManyInbounds: a control plane refuses a report of more inbounds than MaxInbounds, however small it is.
func TestReportOfManyInbounds(t *testing.T) {
	p := &peer{t: t}
	m := monitor(t, p, "listener.x: 1\n")
	for i := range mtlsreport.MaxInbounds + 1 {
		address := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1+i))
		m.inbounds["inbound:"+address.String()] = newInbound(listener{address: address, mode: mtlsreport.Permissive}, m.now())
	}
	if err := m.send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.calls(); len(got) != 1 || len(got[0].Inbounds) != mtlsreport.MaxInbounds {
		t.Errorf("%d reports", len(got))
	}
}
