package identity

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/certs"
)

// signer is a control plane whose clock is time.Now: it takes no connection, so that time can be simulated.
type signer struct {
	t       *testing.T
	ca      *certs.Authority
	life    time.Duration
	silent  bool        // about its time
	away    atomic.Bool // cannot be reached
	crowded atomic.Bool // is asked too often
	calls   atomic.Int32
}

func newSigner(t *testing.T, life time.Duration) *signer {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now(), ECDSA: true})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t: t, ca: ca, life: life}
}

func (s *signer) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "no streams")
}

func (s *signer) Invoke(_ context.Context, _ string, q, a any, opts ...grpc.CallOption) error {
	s.calls.Add(1)
	if s.away.Load() {
		return status.Error(codes.Unavailable, "connection refused")
	}
	if s.crowded.Load() {
		return status.Error(codes.ResourceExhausted, "wait 6s")
	}
	public, err := certs.ParseCSR(q.(*certificateRequest).csr)
	if err != nil {
		return err
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{"kuma.io/service": {"demo"}})
	if err != nil {
		return err
	}
	leaf, err := s.ca.Sign(certs.SignRequest{PublicKey: public, URIs: uris, Lifetime: s.life, Now: time.Now()})
	if err != nil {
		return err
	}
	for _, o := range opts {
		if h, ok := o.(grpc.HeaderCallOption); ok && !s.silent {
			*h.HeaderAddr = metadata.Pairs("kuma-cp-time", time.Now().UTC().Format(time.RFC3339Nano), "kuma-cp-held", "3s")
		}
	}
	a.(*certificateResponse).chain = []string{string(leaf.PEM), string(s.ca.Bundle())}
	return nil
}

// trial is a Source on a host whose clock is ahead, until the test ends.
type trial struct {
	*Source
	ahead  atomic.Int64
	clock  *clock.Clock
	issued atomic.Int32
}

func try(t *testing.T, s *signer, ahead time.Duration) *trial {
	t.Helper()
	tr := &trial{}
	tr.ahead.Store(int64(ahead))
	tr.clock = clock.New(func() time.Time { return time.Now().Add(time.Duration(tr.ahead.Load())) }, nil)
	var err error
	if tr.Source, err = New(Config{
		Conn: s, Node: "default.demo", Clock: tr.clock,
		Issued: func(*SVID) { tr.issued.Add(1) }, Unsupported: func() { t.Error("unsupported") },
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return tr
}

// want fails unless so many certificates have been issued.
func (tr *trial) want(t *testing.T, n int32, when string) {
	t.Helper()
	synctest.Wait()
	if got := tr.issued.Load(); got != n {
		t.Fatalf("%s: %d certificates, want %d; status %+v", when, got, n, tr.Status())
	}
}

func TestClockThatIsWrong(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, -48 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				tr := try(t, newSigner(t, 24*time.Hour), ahead)
				tr.want(t, 1, "at once")
				if skew, known := tr.clock.Skew(); !known || skew != ahead {
					t.Errorf("skew %s, known %v; want %s", skew, known, ahead)
				}
				half := tr.Status().RenewAt.Sub(began)
				if off := math.Abs(half.Hours() - 12); off > 1.2 {
					t.Errorf("renewed after %s, want half of a day", half)
				}
				time.Sleep(half - time.Second)
				tr.want(t, 1, "before half of its life")
				time.Sleep(2 * time.Second)
				tr.want(t, 2, "at half of its life")
			})
		})
	}
}

func TestClockThatNobodyTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, 24*time.Hour)
		s.silent = true
		tr := try(t, s, -time.Hour)
		tr.want(t, 0, "an hour before its time")
		last := tr.Status().LastError
		for _, want := range []string{"not yet valid", "1999-12-31T23:00:00Z by this host's clock", "control plane's is not known"} {
			if !strings.Contains(last, want) {
				t.Errorf("last error %q, want %q", last, want)
			}
		}
		// Another answer of the control plane tells its time: from then on the certificate is good.
		tr.clock.Measured("bootstrap", time.Now(), time.Second, 0)
		time.Sleep(longestWait)
		if tr.issued.Load() == 0 {
			t.Errorf("not issued with the time known: %+v", tr.Status())
		}
	})
}

func TestClockThatJumps(t *testing.T) {
	for _, tc := range []struct {
		name string
		to   time.Duration
	}{{"ahead", time.Hour}, {"back", -time.Hour}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := try(t, newSigner(t, 10*time.Minute), 0)
				tr.want(t, 1, "at once")
				time.Sleep(time.Minute)
				tr.ahead.Store(int64(tc.to))
				// It is renewed before its end whatever the clock says, and the clock is known again.
				time.Sleep(5 * time.Minute)
				if got := tr.issued.Load(); got < 2 {
					t.Fatalf("not renewed: %+v", tr.Status())
				}
				if skew, known := tr.clock.Skew(); !known || skew != tc.to {
					t.Errorf("skew %s, known %v; want %s", skew, known, tc.to)
				}
				calls := tr.issued.Load()
				time.Sleep(time.Minute)
				if got := tr.issued.Load(); got > calls+1 {
					t.Errorf("%d certificates within a minute", got-calls)
				}
			})
		})
	}
}

func TestExpiredWhileTheControlPlaneIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, 10*time.Minute)
		tr := try(t, s, 0)
		tr.want(t, 1, "at once")
		s.away.Store(true)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		st := tr.Status()
		if !st.NotAfter.Before(time.Now()) || !strings.Contains(st.LastError, "connection refused") {
			t.Errorf("status %+v, want an expired certificate and why", st)
		}
		if got := s.calls.Load(); got > 130 {
			t.Errorf("asked %d times in two hours", got)
		}
		s.away.Store(false)
		tr.Reconnected()
		tr.want(t, 2, "the moment that the control plane is back")
		if st := tr.Status(); !st.NotAfter.After(time.Now()) || st.LastError != "" {
			t.Errorf("status %+v", st)
		}
	})
}
