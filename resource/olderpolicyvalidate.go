package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// No fact says how 2.9.13 words what is wrong with the bodies of these kinds: places and texts are those of their
// neighbours.

var _ = []OlderPolicy{&TrafficPermission{}, &TrafficLog{}, &TrafficTrace{}, &FaultInjection{}, &RateLimit{}}

func (c *Connections) validate(f *Faults) {
	validateSelectors(f, "sources", c.Sources, true)
	validateSelectors(f, "destinations", c.Destinations, true)
}

// Validate checks the selectors.
func (t *TrafficPermission) Validate(*Meta) []Violation {
	var f Faults
	t.Connections.validate(&f)
	return f
}

// Validate checks the selectors: of where a connection goes to, its source knows no more than the service.
func (t *TrafficLog) Validate(*Meta) []Violation {
	var f Faults
	t.Connections.validate(&f)
	for i, d := range t.Destinations {
		for _, key := range slices.Sorted(maps.Keys(d.Match)) {
			if key != TagService {
				f.Add(Path("destinations").Index(i).Field("match").Key(key), `tag "`+key+`" is not allowed: only "kuma.io/service" is`)
			}
		}
	}
	return f
}

// Validate checks the selectors.
func (t *TrafficTrace) Validate(*Meta) []Violation {
	var f Faults
	validateSelectors(&f, "selectors", t.Selectors, true)
	return f
}

// Validate checks the selectors and the faults.
func (i *FaultInjection) Validate(*Meta) []Violation {
	var f Faults
	i.Connections.validate(&f)
	for n, d := range i.Destinations {
		switch d.Match[TagProtocol] {
		case "", "*", "http", "http2", "grpc":
		default:
			f.Add(Path("destinations").Index(n).Field("match").Key(TagProtocol), "must be one of http, http2, grpc: faults are for requests")
		}
	}
	c := i.Conf
	if c == nil || c.Delay == nil && c.Abort == nil && c.ResponseBandwidth == nil {
		f.Add("conf", "must have at least one defined: delay, abort, responseBandwidth")
		return f
	}
	if d := c.Delay; d != nil {
		p := Path("conf.delay")
		validatePercentage(&f, p.Field("percentage"), d.Percentage)
		requireDuration(&f, p.Field("value"), d.Value, 0)
	}
	if a := c.Abort; a != nil {
		p := Path("conf.abort")
		validatePercentage(&f, p.Field("percentage"), a.Percentage)
		if a.HTTPStatus < 200 || a.HTTPStatus > 599 {
			f.Add(p.Field("httpStatus"), "must be in inclusive range [200, 599]")
		}
	}
	if b := c.ResponseBandwidth; b != nil {
		p := Path("conf.responseBandwidth")
		validatePercentage(&f, p.Field("percentage"), b.Percentage)
		if kbps, err := b.Kbps(); err != nil || kbps == 0 {
			f.Add(p.Field("limit"), "must be a number of more than zero in kbps, mbps or gbps, such as 50 mbps")
		}
	}
	return f
}

// Kbps reads Limit; capitals do not matter.
func (b *FaultBandwidth) Kbps() (uint64, error) {
	return ParseBandwidth(strings.NewReplacer("mbps", "Mbps", "gbps", "Gbps").Replace(strings.ToLower(b.Limit)))
}

// Validate checks the selectors and the limit.
func (l *RateLimit) Validate(*Meta) []Violation {
	var f Faults
	l.Connections.validate(&f)
	if l.Conf == nil || l.Conf.HTTP == nil {
		f.Add("conf", "must have at least one defined: http")
		return f
	}
	p, h := Path("conf.http"), l.Conf.HTTP
	if h.Requests == 0 {
		f.Add(p.Field("requests"), "must be greater than 0")
	}
	// Envoy refills a bucket no faster.
	requireDuration(&f, p.Field("interval"), h.Interval, 50*time.Millisecond)
	if h.OnRateLimit == nil {
		return f
	}
	p = p.Field("onRateLimit")
	if s := h.OnRateLimit.Status; s != nil && (*s < 100 || *s > 599) {
		f.Add(p.Field("status"), "must be in inclusive range [100, 599]")
	}
	for i, header := range h.OnRateLimit.Headers {
		if header.Key == "" {
			f.Add(p.Field("headers").Index(i).Field("key"), empty)
		}
	}
	return f
}

func validatePercentage(f *Faults, p Path, n *float64) {
	switch {
	case n == nil:
		f.Add(p, empty)
	case *n < 0 || *n > 100:
		f.Add(p, "must be in inclusive range [0.0, 100.0]")
	}
}

// requireDuration wants a duration of more than least.
func requireDuration(f *Faults, p Path, s string, least time.Duration) {
	switch d, err := time.ParseDuration(s); {
	case s == "":
		f.Add(p, empty)
	case err != nil:
		f.Add(p, "has to be a duration, such as 10s")
	case d <= least:
		f.Add(p, fmt.Sprintf("must be greater than: %s", least))
	}
}
