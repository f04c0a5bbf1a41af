// Package clock compares this host's clock with the control plane's. Certificates live by the clock of whoever signs them: an
// agent that knows the difference can judge them, and say what is wrong, on a host whose clock is an hour off.
package clock

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Tolerance is the skew from which on an operator is warned. It is also how far the local clock may move against elapsed
// time before a measurement is given up.
const Tolerance = 5 * time.Second

// stale is the age from which on a measurement gives way to a less exact one.
const stale = 10 * time.Minute

// Clock is the local clock and what is known of the control plane's. Its methods may be called concurrently.
type Clock struct {
	wall  func() time.Time
	begun time.Time // for its monotonic reading
	log   *slog.Logger

	mu    sync.Mutex
	last  measurement
	known bool
	told  bool // of a skew beyond Tolerance
}

// measurement is one look at both clocks at once.
type measurement struct {
	remote, local time.Time
	elapsed       time.Duration // of begun
	within        time.Duration
	by            string
}

// Status is both clocks at one moment.
type Status struct {
	// ClockSkew is how far the local clock is ahead, negative when it is behind; "" while it is not known.
	ClockSkew string `json:"clockSkew,omitempty"`
	// Within is how far ClockSkew may be wrong to either side.
	Within           string    `json:"within,omitempty"`
	ControlPlaneTime time.Time `json:"controlPlaneTime,omitzero"`
	LocalTime        time.Time `json:"localTime"`
	MeasuredAt       time.Time `json:"measuredAt,omitzero"` // by the local clock
	MeasuredBy       string    `json:"measuredBy,omitempty"`
}

// New makes a Clock that knows nothing of the control plane's. Wall is the local clock, time.Now when nil; log gets a warning
// when the two differ, and is silent when nil.
func New(wall func() time.Time, log *slog.Logger) *Clock {
	if wall == nil {
		wall = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Clock{wall: wall, begun: time.Now(), log: log}
}

// Local returns the local wall clock's time, without a monotonic reading.
func (c *Clock) Local() time.Time { return c.wall().Round(0) }

// Now returns the control plane's time when it is known, and the local time otherwise. It has no monotonic reading.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Local().Add(-c.skew())
}

// skew is how far the local clock is ahead; 0 while it is not known. The caller holds the lock.
func (c *Clock) skew() time.Duration {
	if !c.holds() {
		return 0
	}
	return c.last.local.Sub(c.last.remote)
}

// holds says whether the last measurement is still good: somebody may have set the clock, or the host may have slept. The
// caller holds the lock.
func (c *Clock) holds() bool {
	if !c.known {
		return false
	}
	moved := c.Local().Sub(c.last.local) - (time.Since(c.begun) - c.last.elapsed)
	return moved.Abs() <= Tolerance
}

// Skew returns how far the local clock is ahead, and whether that is known.
func (c *Clock) Skew() (ahead time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew(), c.holds()
}

// Measured takes the control plane's time out of an answer that took the round trip and has just arrived: it was read, give
// or take precision, somewhere within that. By names the kind of answer.
func (c *Clock) Measured(by string, remote time.Time, precision, roundTrip time.Duration) {
	if remote.Year() < 2000 || roundTrip < 0 { // there was none
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := measurement{
		remote: remote.Add(roundTrip / 2).Round(0), local: c.Local(), elapsed: time.Since(c.begun),
		within: roundTrip/2 + precision, by: by,
	}
	if c.holds() && m.within > c.last.within && m.elapsed-c.last.elapsed < stale {
		apart := m.local.Sub(m.remote) - c.last.local.Sub(c.last.remote)
		if apart.Abs() <= m.within+c.last.within {
			return // it agrees with a better one
		}
	}
	c.last, c.known = m, true
	c.tell()
}

// tell warns once of a skew, and says when it is gone. The caller holds the lock.
func (c *Clock) tell() {
	skew := c.skew()
	large := skew.Abs()-c.last.within > Tolerance
	if large == c.told {
		return
	}
	c.told = large
	if !large {
		c.log.Info("the clock agrees with the control plane's again", "skew", round(skew))
		return
	}
	word := "ahead"
	if skew < 0 {
		word = "behind"
	}
	c.log.Warn("this host's clock is not the control plane's: envoy judges certificates by the wrong time, set it (chronyd, systemd-timesyncd)",
		"skew", round(skew.Abs()), "local_clock_is", word, "local_time", c.last.local.UTC().Format(time.RFC3339), "control_plane_time", c.last.remote.UTC().Format(time.RFC3339))
}

// Status returns a snapshot.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Local()
	if !c.holds() {
		return Status{LocalTime: now.UTC()}
	}
	return Status{
		ClockSkew: round(c.skew()).String(), Within: round(c.last.within).String(), ControlPlaneTime: now.Add(-c.skew()).UTC(),
		LocalTime: now.UTC(), MeasuredAt: c.last.local.UTC(), MeasuredBy: c.last.by,
	}
}

// String tells both clocks, for an error about time.
func (c *Clock) String() string {
	st := c.Status()
	if st.ClockSkew == "" {
		return fmt.Sprintf("it is %s by this host's clock, the control plane's is not known", st.LocalTime.Format(time.RFC3339))
	}
	return fmt.Sprintf("it is %s by the control plane's clock and %s by this host's", st.ControlPlaneTime.Format(time.RFC3339), st.LocalTime.Format(time.RFC3339))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
