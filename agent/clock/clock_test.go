package clock_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/clock"
)

// wall is a local clock that can be set.
type wall struct{ ahead atomic.Int64 }

func (w *wall) now() time.Time      { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *wall) set(d time.Duration) { w.ahead.Store(int64(d)) }

func TestSkew(t *testing.T) {
	for _, tc := range []struct {
		name       string
		ahead      time.Duration
		trip       time.Duration
		wantSkew   string
		wantWarned string // "" for none
	}{
		{"an hour ahead", time.Hour, 2 * time.Second, "1h0m0s", "local_clock_is=ahead"},
		{"an hour behind", -time.Hour, 2 * time.Second, "-1h0m0s", "local_clock_is=behind"},
		{"the same", 0, 0, "0s", ""},
		{"within tolerance", 5 * time.Second, 0, "5s", ""},
		{"no more than the measurement may be wrong", 8 * time.Second, 10 * time.Second, "8s", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w wall
				var log bytes.Buffer
				w.set(tc.ahead)
				c := clock.New(w.now, slog.New(slog.NewTextHandler(&log, nil)))
				if got := c.Now(); !got.Equal(w.now()) {
					t.Errorf("before a measurement it is %s, want the local %s", got, w.now())
				}
				remote := time.Now() // read in the middle of the round trip
				time.Sleep(tc.trip / 2)
				c.Measured("test", remote, 0, tc.trip)
				time.Sleep(time.Minute)
				if got := c.Now(); !got.Equal(time.Now()) {
					t.Errorf("it is %s, want %s", got, time.Now())
				}
				st := c.Status()
				if st.ClockSkew != tc.wantSkew || !st.ControlPlaneTime.Equal(time.Now()) || !st.LocalTime.Equal(w.now()) || st.MeasuredBy != "test" {
					t.Errorf("status %+v, want skew %s", st, tc.wantSkew)
				}
				if got := log.String(); (got == "") != (tc.wantWarned == "") || !strings.Contains(got, tc.wantWarned) {
					t.Errorf("log %q, want a warning with %q", got, tc.wantWarned)
				}
			})
		})
	}
}

func TestBetterMeasurementStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(nil, nil)
		c.Measured("exact", time.Now(), 0, time.Millisecond)
		c.Measured("coarse", time.Now().Add(300*time.Millisecond), time.Second/2, time.Millisecond)
		if got := c.Status().MeasuredBy; got != "exact" {
			t.Errorf("a coarse measurement that agrees replaced the %s one", got)
		}
		c.Measured("coarse", time.Now().Add(time.Minute), time.Second/2, 0)
		if got := c.Status(); got.MeasuredBy != "coarse" || got.ClockSkew != "-1m0s" {
			t.Errorf("a measurement that contradicts is not taken: %+v", got)
		}
		time.Sleep(time.Hour)
		c.Measured("coarser", time.Now().Add(time.Minute), time.Second, time.Second)
		if got := c.Status().MeasuredBy; got != "coarser" {
			t.Errorf("an hour later the old measurement %q is still preferred", got)
		}
		c.Measured("nothing", time.Time{}, 0, 0)
		if got := c.Status().MeasuredBy; got != "coarser" {
			t.Errorf("an answer without a time counts as one: %s", got)
		}
	})
}

func TestClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w wall
		var log bytes.Buffer
		c := clock.New(w.now, slog.New(slog.NewTextHandler(&log, nil)))
		c.Measured("test", time.Now(), 0, 0)
		w.set(time.Hour)
		if _, known := c.Skew(); known || c.Status().ClockSkew != "" || !c.Now().Equal(w.now()) {
			t.Errorf("the measurement outlives the clock: %+v", c.Status())
		}
		if !strings.Contains(c.String(), "control plane's is not known") {
			t.Errorf("it says %q", c)
		}
		c.Measured("test", time.Now(), 0, 0)
		if skew, known := c.Skew(); !known || skew != time.Hour {
			t.Errorf("skew %s, %v; want 1h", skew, known)
		}
		w.set(0)
		c.Measured("test", time.Now(), 0, 0)
		if got := log.String(); strings.Count(got, "level=WARN") != 1 || strings.Count(got, "agrees with the control plane's again") != 1 {
			t.Errorf("log %s", got)
		}
	})
}

func TestUntil(t *testing.T) {
	for _, tc := range []struct {
		name string
		jump time.Duration // after a minute
		want time.Duration // at most, since clocks are looked at now and then
	}{
		{"no jump", 0, time.Hour},
		{"an hour ahead", time.Hour, time.Minute + 30*time.Second},
		{"an hour back", -time.Hour, time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w wall
				c := clock.New(w.now, nil)
				began := time.Now()
				time.AfterFunc(time.Minute, func() { w.set(tc.jump) })
				c.Until(t.Context(), w.now().Add(time.Hour), nil)
				if got := time.Since(began); got > tc.want || tc.jump == 0 && got != tc.want {
					t.Errorf("waited %s, want %s", got, tc.want)
				}
			})
		})
	}
	t.Run("ends early", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := clock.New(nil, nil)
			early := make(chan struct{}, 1)
			early <- struct{}{}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			c.Until(ctx, time.Now().Add(time.Hour), early)
			c.Until(ctx, time.Now().Add(time.Hour), nil)
			if got := time.Since(began); got != time.Second {
				t.Errorf("waited %s, want the context's second", got)
			}
		})
	})
}
