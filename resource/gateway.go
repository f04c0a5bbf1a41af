package resource

// MeshGateway says what a builtin gateway listens to: the proxies are those whose gateway tags a selector matches
// (contract policies.md §4.1 step 4). It is of the older, flat form.
type MeshGateway struct {
	Selectors []Selector `json:"selectors,omitempty"`
	// Tags are given to every listener; a listener may add its own.
	Tags map[string]string `json:"tags,omitempty"`
	Conf *GatewayConf      `json:"conf,omitempty"`
}

// Selector chooses proxies by their tags; the value "*" matches any.
type Selector struct {
	// Match is tags of proxies; kuma.io/service is mandatory.
	Match map[string]string `json:"match,omitempty"`
}

// GatewayConf holds the listeners of a MeshGateway.
type GatewayConf struct {
	Listeners []GatewayListener `json:"listeners,omitempty"`
}

// GatewayListener is one port of a gateway, or one hostname of a port: listeners of one port have one protocol.
type GatewayListener struct {
	// Hostname limits the listener to a host; empty and "*" mean every one, "*.example.com" every one below.
	Hostname string `json:"hostname,omitempty"`
	// Port is the port that is opened.
	Port uint32 `json:"port,omitempty"`
	// Protocol is HTTP, HTTPS, TCP or TLS.
	Protocol string      `json:"protocol,omitempty"`
	TLS      *GatewayTLS `json:"tls,omitempty"`
	// Tags select this listener in routes and policies.
	Tags map[string]string `json:"tags,omitempty"`
	// CrossMesh opens the listener to proxies of other meshes.
	CrossMesh bool              `json:"crossMesh,omitempty"`
	Resources *GatewayResources `json:"resources,omitempty"`
}

// GatewayTLS says who ends TLS, the gateway or the service behind it.
type GatewayTLS struct {
	// Mode is TERMINATE or PASSTHROUGH.
	Mode         string              `json:"mode,omitempty"`
	Certificates []*SecretDataSource `json:"certificates,omitempty"`
	// Options are reserved.
	Options *struct{} `json:"options,omitempty"`
}

// GatewayResources bounds what a listener uses.
type GatewayResources struct {
	// ConnectionLimit is the number of connections at a time; no limit when 0. Listeners of one port share it.
	ConnectionLimit uint32 `json:"connectionLimit,omitempty"`
}

// Protocols of GatewayListener and modes of GatewayTLS.
const (
	GatewayHTTP  = "HTTP"
	GatewayHTTPS = "HTTPS"
	GatewayTCP   = "TCP"
	GatewayTLSIn = "TLS"

	GatewayTerminate   = "TERMINATE"
	GatewayPassthrough = "PASSTHROUGH"
)

// MeshGatewayRoute is the older way to route requests of a MeshGateway: selectors match tags of listeners.
type MeshGatewayRoute struct {
	Selectors []Selector        `json:"selectors,omitempty"`
	Conf      *GatewayRouteConf `json:"conf,omitempty"`
}

// GatewayRouteConf holds exactly one of the routes.
type GatewayRouteConf struct {
	HTTP *GatewayHTTPRoute `json:"http,omitempty"`
	TCP  *GatewayTCPRoute  `json:"tcp,omitempty"`
}

// GatewayTCPRoute forwards connections.
type GatewayTCPRoute struct {
	Rules []GatewayTCPRule `json:"rules,omitempty"`
}

// GatewayTCPRule divides connections among backends.
type GatewayTCPRule struct {
	Backends []GatewayBackend `json:"backends,omitempty"`
}

// GatewayHTTPRoute forwards requests for its hostnames, those of the listener when it names none.
type GatewayHTTPRoute struct {
	// Hostnames names of hosts; none means those of the listener.
	Hostnames []string          `json:"hostnames,omitempty"`
	Rules     []GatewayHTTPRule `json:"rules,omitempty"`
}

// GatewayHTTPRule applies to a request that one of Matches describes.
type GatewayHTTPRule struct {
	Matches  []GatewayMatch   `json:"matches,omitempty"`
	Filters  []GatewayFilter  `json:"filters,omitempty"`
	Backends []GatewayBackend `json:"backends,omitempty"`
}

// GatewayMatch describes requests; every part that is present must agree.
type GatewayMatch struct {
	Path *GatewayPath `json:"path,omitempty"`
	// Method is the method, such as GET.
	Method          string              `json:"method,omitempty"`
	Headers         []GatewayValueMatch `json:"headers,omitempty"`
	QueryParameters []GatewayValueMatch `json:"queryParameters,omitempty"`
}

// GatewayPath compares a path; Match is EXACT (also when empty), PREFIX or REGEX.
type GatewayPath struct {
	// Match is EXACT (also when empty), PREFIX or REGEX.
	Match string `json:"match,omitempty"`
	// Value is the path, or the expression.
	Value string `json:"value,omitempty"`
}

// GatewayValueMatch compares a header or a query parameter; Match is EXACT (also when empty) or REGEX, for headers also
// PRESENT or ABSENT.
type GatewayValueMatch struct {
	// Match is EXACT (also when empty) or REGEX; for headers also PRESENT or ABSENT.
	Match string `json:"match,omitempty"`
	// Name is the name.
	Name string `json:"name,omitempty"`
	// Value is what the value is compared with.
	Value string `json:"value,omitempty"`
}

// GatewayFilter changes a request or its answer; exactly one field is set.
type GatewayFilter struct {
	RequestHeader  *GatewayHeaders  `json:"requestHeader,omitempty"`
	ResponseHeader *GatewayHeaders  `json:"responseHeader,omitempty"`
	Mirror         *GatewayMirror   `json:"mirror,omitempty"`
	Redirect       *GatewayRedirect `json:"redirect,omitempty"`
	Rewrite        *GatewayRewrite  `json:"rewrite,omitempty"`
}

// GatewayHeaders sets, adds and removes headers.
type GatewayHeaders struct {
	Set []GatewayHeader `json:"set,omitempty"`
	Add []GatewayHeader `json:"add,omitempty"`
	// Remove names of headers to take away.
	Remove []string `json:"remove,omitempty"`
}

// GatewayHeader is a header with its value.
type GatewayHeader struct {
	// Name is the header.
	Name string `json:"name,omitempty"`
	// Value is its value.
	Value string `json:"value,omitempty"`
}

// GatewayMirror sends a copy of some requests, Percentage of 100, to another backend.
type GatewayMirror struct {
	// Percentage is the share of requests, 0 to 100.
	Percentage *float64        `json:"percentage,omitempty"`
	Backend    *GatewayBackend `json:"backend,omitempty"`
}

// GatewayRedirect answers with another location.
type GatewayRedirect struct {
	// Scheme is http or https.
	Scheme string `json:"scheme,omitempty"`
	// Hostname is the new host.
	Hostname string `json:"hostname,omitempty"`
	// Port is the new port.
	Port uint32 `json:"port,omitempty"`
	// StatusCode is the status of the answer, 300 to 308.
	StatusCode uint32          `json:"statusCode,omitempty"`
	Path       *GatewayRewrite `json:"path,omitempty"`
}

// GatewayRewrite replaces the whole path or the prefix that matched.
type GatewayRewrite struct {
	// ReplaceFull is the new path.
	ReplaceFull *string `json:"replaceFull,omitempty"`
	// ReplacePrefixMatch is what takes the place of the prefix that matched.
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
	// HostToBackendHostname asks the backend for its own host.
	HostToBackendHostname bool `json:"hostToBackendHostname,omitempty"`
}

// GatewayBackend is a service by its tags, with its share of the traffic.
type GatewayBackend struct {
	// Weight is its share.
	Weight uint32 `json:"weight,omitempty"`
	// Destination is tags of the service; kuma.io/service is mandatory.
	Destination map[string]string `json:"destination,omitempty"`
}
