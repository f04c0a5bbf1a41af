package resource

// OlderPolicy is implemented by the policies from before target references. They are of the flat form and choose by tags.
type OlderPolicy interface {
	Spec
	// Proxies are selectors of the proxies that the policy may change: those at one end of a connection.
	Proxies() []Selector
}

// OlderPolicies are the kinds of OlderPolicy.
func OlderPolicies() [5]Kind {
	return [...]Kind{KindTrafficPermission, KindTrafficLog, KindTrafficTrace, KindFaultInjection, KindRateLimit}
}

func isOlderPolicy(k Kind) bool {
	for _, kind := range OlderPolicies() {
		if k == kind {
			return true
		}
	}
	return false
}

// Connections chooses connections by the tags of both ends.
type Connections struct {
	// Sources are the proxies that send: those that one of the selectors chooses.
	Sources []Selector `json:"sources,omitempty"`
	// Destinations are where that goes to: what one of the selectors chooses.
	Destinations []Selector `json:"destinations,omitempty"`
}

// TrafficPermission says which clients may reach a proxy: those of its sources. MeshTrafficPermission has taken its place.
type TrafficPermission struct {
	Connections
}

// Proxies implements OlderPolicy.
func (t *TrafficPermission) Proxies() []Selector { return t.Destinations }

// TrafficLog logs what proxies send, to a backend of the Mesh. MeshAccessLog has taken its place.
type TrafficLog struct {
	Connections
	Conf *BackendConf `json:"conf,omitempty"`
}

// Proxies implements OlderPolicy.
func (t *TrafficLog) Proxies() []Selector { return t.Sources }

// TrafficTrace sends spans of requests to a backend of the Mesh. MeshTrace has taken its place.
type TrafficTrace struct {
	Selectors []Selector   `json:"selectors,omitempty"`
	Conf      *BackendConf `json:"conf,omitempty"`
}

// Proxies implements OlderPolicy.
func (t *TrafficTrace) Proxies() []Selector { return t.Selectors }

// BackendConf chooses a backend of the Mesh.
type BackendConf struct {
	// Backend is the name of the backend, the default one of the Mesh when absent.
	Backend string `json:"backend,omitempty"`
}

// BackendName is the name in conf, which may be absent.
func (c *BackendConf) BackendName() string {
	if c == nil {
		return ""
	}
	return c.Backend
}

// FaultInjection lets requests between services fail on purpose. MeshFaultInjection has taken its place.
type FaultInjection struct {
	Connections
	Conf *FaultConf `json:"conf,omitempty"`
}

// Proxies implements OlderPolicy.
func (i *FaultInjection) Proxies() []Selector { return i.Destinations }

// FaultConf holds what happens to requests; at least one of the three is set.
type FaultConf struct {
	Delay             *FaultDelay     `json:"delay,omitempty"`
	Abort             *FaultAbort     `json:"abort,omitempty"`
	ResponseBandwidth *FaultBandwidth `json:"responseBandwidth,omitempty"`
}

// FaultDelay lets requests wait.
type FaultDelay struct {
	// Percentage of the requests, 0 to 100.
	Percentage *float64 `json:"percentage,omitempty"`
	// Value is how long, such as 5s.
	Value string `json:"value,omitempty"`
}

// FaultAbort answers at once.
type FaultAbort struct {
	// Percentage of the requests, 0 to 100.
	Percentage *float64 `json:"percentage,omitempty"`
	// HTTPStatus is the answer, 200 to 599.
	HTTPStatus uint32 `json:"httpStatus,omitempty"`
}

// FaultBandwidth slows responses down.
type FaultBandwidth struct {
	// Percentage of the responses, 0 to 100.
	Percentage *float64 `json:"percentage,omitempty"`
	// Limit is a number with its unit, such as 50 mbps.
	Limit string `json:"limit,omitempty"`
}

// RateLimit limits how often a proxy is asked by some clients; each proxy counts for itself. MeshRateLimit has taken its
// place.
type RateLimit struct {
	Connections
	Conf *RateLimitConf `json:"conf,omitempty"`
}

// Proxies implements OlderPolicy.
func (l *RateLimit) Proxies() []Selector { return l.Destinations }

// RateLimitConf holds the limit of a protocol.
type RateLimitConf struct {
	HTTP *HTTPRateLimit `json:"http,omitempty"`
}

// HTTPRateLimit limits requests.
type HTTPRateLimit struct {
	// Requests is how many there may be in an interval.
	Requests uint32 `json:"requests,omitempty"`
	// Interval is a duration, such as 10s.
	Interval    string            `json:"interval,omitempty"`
	OnRateLimit *RateLimitOutcome `json:"onRateLimit,omitempty"`
}

// RateLimitOutcome is the answer to a request over the limit.
type RateLimitOutcome struct {
	// Status of the answer, 429 when absent.
	Status  *uint32           `json:"status,omitempty"`
	Headers []RateLimitHeader `json:"headers,omitempty"`
}

// RateLimitHeader is a header of the answer.
type RateLimitHeader struct {
	// Key is the name of the header.
	Key string `json:"key,omitempty"`
	// Value is its value.
	Value string `json:"value,omitempty"`
	// Append keeps other values of the header.
	Append bool `json:"append,omitempty"`
}
