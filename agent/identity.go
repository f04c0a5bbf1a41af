package agent

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/agent/identity"
)

// setIdentity returns what gives Envoy a new identity.
func (a *Agent) setIdentity(p *parts) func(*identity.SVID) {
	return func(v *identity.SVID) {
		secret, err := v.Secret(a.identitySecret())
		if err != nil { // a key that was read or made is one that can be written
			a.log.Error("envoy cannot be given the workload certificate", "reason", err.Error())
			return
		}
		p.relay.SetIdentity(secret)
	}
}

// reconnected tells those who wait for the control plane that it is there.
func (p *parts) reconnected() {
	if p.identity != nil {
		p.identity.Reconnected()
	}
}

// identityStatus is the page "identity".
type identityStatus struct {
	identity.Status
	Clock clock.Status `json:"clock"`
}

func (a *Agent) identityPage(p *parts) identityStatus {
	page := identityStatus{Status: identity.Status{Source: identity.FromControlPlane, State: identity.ControlPlane}, Clock: a.clock.Status()}
	if p.identity != nil {
		page.Status = p.identity.Status()
	}
	return page
}

// registerClock shows how far this host's clock is off.
func (a *Agent) registerClock(own *prometheus.Registry) error {
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_dp", Name: "clock_skew_seconds",
		Help: "How far this host's clock is ahead of the control plane's; 0 while that is not known.",
	}, func() float64 {
		ahead, _ := a.clock.Skew()
		return ahead.Seconds()
	})
	if err := own.Register(gauge); err != nil {
		return fmt.Errorf("register metrics of the clock: %w", err)
	}
	return nil
}
