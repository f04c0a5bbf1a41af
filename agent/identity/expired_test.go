package identity

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// TestExpiryIsTold: once for each certificate that ends, when it does, however long the wait for another try has become.
func TestExpiryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = time.Hour
		plane, log := newSigner(t, life), &lines{}
		s, err := New(Config{
			Conn: plane, Node: "default.demo", Issued: func(*SVID) {}, Unsupported: func() {}, Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		for round := 1; round <= 2; round++ {
			plane.away.Store(true)
			end := s.Status().NotAfter
			for _, at := range []struct {
				moment time.Time
				want   int
			}{{end.Add(-time.Second), round - 1}, {end.Add(time.Second), round}, {end.Add(5 * life), round}} {
				time.Sleep(time.Until(at.moment)) // simulated
				synctest.Wait()
				if got := log.count("workload certificate expired"); got != at.want {
					t.Errorf("round %d, %s after the end: told %d times, want %d", round, at.moment.Sub(end), got, at.want)
				}
			}
			plane.away.Store(false)
			s.Reconnected()
			synctest.Wait()
			if st := s.Status(); !st.NotAfter.After(time.Now()) {
				t.Fatalf("round %d: no new certificate: %+v", round, st)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestCrowded: who has asked too often asks again when there is room, and not ever less.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := newSigner(t, time.Hour)
		plane.crowded.Store(true)
		s, err := New(Config{Conn: plane, Node: "default.demo", Issued: func(*SVID) {}, Unsupported: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(10 * time.Minute) // simulated
		plane.crowded.Store(false)
		time.Sleep(crowdedWait)
		synctest.Wait()
		if st := s.Status(); st.State != Issued {
			t.Errorf("%s after there was room: %+v", crowdedWait, st)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
