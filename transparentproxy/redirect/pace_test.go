//go:build linux

package redirect

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var p pace
	now := begin
	for i, seconds := range []int{0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60} {
		want := time.Duration(seconds) * time.Second
		if got := p.nextRepair(now).Sub(now); got != want {
			t.Errorf("repair %d is delayed by %s, want %s", i+1, got, want)
		}
		now = now.Add(want)
		p.repairedAt(now)
		if next := now.Add(59 * time.Second); i > 5 && !p.nextRepair(next).After(now) {
			t.Error("forgotten too early")
		}
	}
	if later := now.Add(calm); !p.nextRepair(later).Equal(later) {
		t.Error("a repair after a calm time is delayed")
	}
}
