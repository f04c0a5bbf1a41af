//go:build linux

package redirect

import "time"

const (
	// compareShare bounds the part of the time that is spent on comparing: on a busy host rules of others change all the time.
	compareShare = 10
	// calm is how long nothing must have been repaired for the next repair to count as the first.
	calm = time.Minute
	// atOnce is how many repairs within that time are made without delay.
	atOnce = 3
	// firstDelay is before the next one, and doubles up to lastDelay: another tool that undoes each repair wins most of the
	// time, but neither burns the processor nor fills the log.
	firstDelay, lastDelay = time.Second, time.Minute
)

// pace says when to compare and when to repair.
type pace struct {
	compared time.Time     // last
	took     time.Duration // by that
	repaired time.Time     // last
	repairs  int           // within a time that was not calm
}

// nextCompare is the earliest time for a comparison.
func (p *pace) nextCompare() time.Time { return p.compared.Add(compareShare * p.took) }

// nextRepair is the earliest time for a repair that is found necessary now.
func (p *pace) nextRepair(now time.Time) time.Time {
	if now.Sub(p.repaired) >= calm {
		p.repairs = 0
	}
	if p.repairs < atOnce {
		return now
	}
	delay := lastDelay
	if n := p.repairs - atOnce; n < 6 {
		delay = min(firstDelay<<n, lastDelay)
	}
	return p.repaired.Add(delay)
}

func (p *pace) repairedAt(now time.Time) {
	p.repaired = now
	p.repairs++
}
