package resource

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// MeshLogging is the older backends for access logs, which TrafficLogs name; a MeshAccessLog brings its own.
type MeshLogging struct {
	// DefaultBackend is for TrafficLogs that name none.
	DefaultBackend string            `json:"defaultBackend,omitempty"`
	Backends       []*LoggingBackend `json:"backends,omitempty"`
}

// LoggingBackend is where access logs go.
type LoggingBackend struct {
	// Name is what policies call it.
	Name string `json:"name,omitempty"`
	// Format is a line of the log with commands of Envoy and of Kuma, such as %KUMA_SOURCE_SERVICE%; one of Kuma when absent.
	Format string `json:"format,omitempty"`
	// Type is one of file and tcp.
	Type string       `json:"type,omitempty"`
	Conf *LoggingConf `json:"conf,omitempty"`
}

// LoggingConf says where exactly.
type LoggingConf struct {
	// Path is the file, for type file.
	Path string `json:"path,omitempty"`
	// Address is that of the receiver, host:port, for type tcp.
	Address string `json:"address,omitempty"`
}

// MeshTracing is the older backends for traces, which TrafficTraces name; a MeshTrace brings its own.
type MeshTracing struct {
	// DefaultBackend is for TrafficTraces that name none.
	DefaultBackend string            `json:"defaultBackend,omitempty"`
	Backends       []*TracingBackend `json:"backends,omitempty"`
}

// TracingBackend is where spans go.
type TracingBackend struct {
	// Name is what policies call it.
	Name string `json:"name,omitempty"`
	// Sampling is the percentage of requests that make a span, 0 to 100; all when absent.
	Sampling *float64 `json:"sampling,omitempty"`
	// Type is one of zipkin and datadog.
	Type string       `json:"type,omitempty"`
	Conf *TracingConf `json:"conf,omitempty"`
}

// TracingConf says where exactly, and in which form.
type TracingConf struct {
	// URL is that of the collector, for type zipkin.
	URL string `json:"url,omitempty"`
	// TraceID128Bit makes 128 bits instead of 64, for type zipkin.
	TraceID128Bit bool `json:"traceId128bit,omitempty"`
	// APIVersion is one of httpJson (also when absent), httpJsonV1 and httpProto, for type zipkin.
	APIVersion string `json:"apiVersion,omitempty"`
	// SharedSpanContext gives client and server one span, true when absent, for type zipkin.
	SharedSpanContext *bool `json:"sharedSpanContext,omitempty"`
	// Address is the host of the agent, for type datadog.
	Address string `json:"address,omitempty"`
	// Port is the port of the agent, for type datadog.
	Port uint32 `json:"port,omitempty"`
	// SplitService names the service apart for each direction and destination, for type datadog.
	SplitService bool `json:"splitService,omitempty"`
}

// Types of LoggingBackend and TracingBackend, and values of TracingConf.APIVersion.
const (
	LoggingFile    = "file"
	LoggingTCP     = "tcp"
	TracingZipkin  = "zipkin"
	TracingDatadog = "datadog"

	ZipkinJSON   = "httpJson"
	ZipkinJSONV1 = "httpJsonV1"
	ZipkinProto  = "httpProto"
)

// LoggingBackend returns the backend of a name, the default one when the name is empty; nil when there is none.
func (m *Mesh) LoggingBackend(name string) *LoggingBackend {
	if m.Logging == nil {
		return nil
	}
	if name == "" {
		name = m.Logging.DefaultBackend
	}
	for _, b := range m.Logging.Backends {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// TracingBackend returns the backend of a name, the default one when the name is empty; nil when there is none.
func (m *Mesh) TracingBackend(name string) *TracingBackend {
	if m.Tracing == nil {
		return nil
	}
	if name == "" {
		name = m.Tracing.DefaultBackend
	}
	for _, b := range m.Tracing.Backends {
		if b.Name == name {
			return b
		}
	}
	return nil
}

func (l *MeshLogging) validate(f *Faults, p Path) {
	names := make([]string, len(l.Backends))
	for i, b := range l.Backends {
		names[i] = b.Name
	}
	validateChoice(f, p, names, "defaultBackend", l.DefaultBackend, "has to be set to one of the logging backend in mesh")
	for i, b := range l.Backends {
		b.validate(f, p.Field("backends").Index(i))
	}
}

func (b *LoggingBackend) validate(f *Faults, p Path) {
	conf := b.Conf
	if conf == nil {
		conf = &LoggingConf{}
	}
	at := p.Field("conf")
	switch b.Type {
	case LoggingFile:
		if conf.Path == "" {
			f.Add(at.Field("path"), empty)
		}
	case LoggingTCP:
		validateReceiver(f, at.Field("address"), conf.Address)
	default:
		validateType(f, p.Field("type"), b.Type, LoggingFile, LoggingTCP)
	}
}

func (t *MeshTracing) validate(f *Faults, p Path) {
	names := make([]string, len(t.Backends))
	for i, b := range t.Backends {
		names[i] = b.Name
	}
	validateChoice(f, p, names, "defaultBackend", t.DefaultBackend, "has to be set to one of the tracing backend in mesh")
	for i, b := range t.Backends {
		b.validate(f, p.Field("backends").Index(i))
	}
}

func (b *TracingBackend) validate(f *Faults, p Path) {
	if s := b.Sampling; s != nil && (*s < 0 || *s > 100) {
		f.Add(p.Field("sampling"), "must be in inclusive range [0.0, 100.0]")
	}
	conf := b.Conf
	if conf == nil {
		conf = &TracingConf{}
	}
	at := p.Field("conf")
	switch b.Type {
	case TracingZipkin:
		switch u, err := url.Parse(conf.URL); {
		case conf.URL == "":
			f.Add(at.Field("url"), empty)
		case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
			f.Add(at.Field("url"), "must be a URL with scheme http or https and a host, such as http://zipkin:9411/api/v2/spans")
		}
		f.OneOf(at.Field("apiVersion"), conf.APIVersion, ZipkinJSON, ZipkinJSONV1, ZipkinProto)
	case TracingDatadog:
		switch {
		case conf.Address == "":
			f.Add(at.Field("address"), empty)
		case !isHost(conf.Address):
			f.Add(at.Field("address"), badAddress)
		}
		f.port(at.Field("port"), conf.Port)
	default:
		validateType(f, p.Field("type"), b.Type, TracingZipkin, TracingDatadog)
	}
}

// validateChoice checks that the names of backends differ, and that the field chosen, which holds choice, names one of them.
func validateChoice(f *Faults, p Path, names []string, chosen, choice, unknown string) {
	seen := map[string]bool{}
	for i, name := range names {
		p := p.Field("backends").Index(i).Field("name")
		switch {
		case name == "":
			f.Add(p, empty)
		case seen[name]:
			f.Add(p, fmt.Sprintf("%q name is already used for another backend", name))
		}
		seen[name] = true
	}
	if choice != "" && !seen[choice] {
		f.Add(p.Field(chosen), unknown)
	}
}

// validateType refuses a type that is none of the known ones.
func validateType(f *Faults, p Path, given string, known ...string) {
	if given == "" {
		f.Add(p, empty)
		return
	}
	f.OneOf(p, given, known...)
}

func validateReceiver(f *Faults, p Path, address string) {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case address == "":
		f.Add(p, empty)
	case err != nil || portErr != nil || n == 0 || !isHost(host):
		f.Add(p, "must be host:port, such as logs.example.com:5000")
	}
}
