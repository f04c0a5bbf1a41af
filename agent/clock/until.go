package clock

import (
	"context"
	"time"
)

// look is how often the clocks are read while waiting: one that was set, or a host that slept, must not carry a certificate
// past its end.
const look = 30 * time.Second

// Until waits for a moment by Now, or for as long as it was away when the wait began, whichever ends first: a clock that is
// set back does not prolong the wait. It ends early when ctx ends or early receives, which may be nil.
func (c *Clock) Until(ctx context.Context, moment time.Time, early <-chan struct{}) {
	began, whole := time.Now(), moment.Sub(c.Now())
	for {
		left := min(moment.Sub(c.Now()), whole-time.Since(began))
		if left <= 0 {
			return
		}
		timer := time.NewTimer(min(left, look))
		select {
		case <-timer.C:
		case <-early:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
