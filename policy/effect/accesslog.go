package effect

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/proto"
)

// FileLogger is the name of the logger that FileLog configures.
const FileLogger = "envoy.access_loggers.file"

// Formats of log lines, without their ends (contract effects-security.md §5).
const (
	httpLogFormat = `[%START_TIME%] %KUMA_MESH% "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
		`%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
		`"%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%KUMA_SOURCE_SERVICE%" ` +
		`"%KUMA_DESTINATION_SERVICE%" "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%" "%UPSTREAM_HOST%"`
	tcpLogFormat = `[%START_TIME%] %RESPONSE_FLAGS% %KUMA_MESH% %KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%` +
		`(%KUMA_DESTINATION_SERVICE%) took %DURATION%ms, sent %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes`
)

// Names of what is no service of the mesh: traffic that passes by, as policies by tags call it, and where it goes, in logs.
const (
	PassThrough = "pass_through"
	Outside     = "external"
)

// Directions of Traffic.
const (
	Incoming = "INBOUND"
	Outgoing = "OUTBOUND"
)

// Traffic is what a listener carries; services at its ends are named as far as they are known here.
type Traffic struct{ Source, Destination, Direction string }

// Placeholders are names in the formats of policies with what Envoy does not know of them.
type Placeholders map[string]string

// placeholder begins all of them; they end with a percent sign.
const placeholder = "%KUMA_"

// Placeholders fills in what Envoy does not know. The source address is the proxy's own, also for what comes in.
func (t Traffic) Placeholders(env Env) Placeholders {
	return Placeholders{
		"%KUMA_SOURCE_ADDRESS%":              HostPort(env.Address, 0),
		"%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%": env.Address,
		"%KUMA_SOURCE_SERVICE%":              t.Source,
		"%KUMA_DESTINATION_SERVICE%":         t.Destination,
		"%KUMA_MESH%":                        env.Mesh,
		"%KUMA_TRAFFIC_DIRECTION%":           t.Direction,
	}
}

// Replace replaces all of them in a text, in one pass.
func (p Placeholders) Replace(text string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, placeholder)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, after, closed := strings.Cut(rest, "%")
		value, known := p[placeholder+name+"%"]
		if !closed || !known { // what follows may begin another one
			out.WriteString(placeholder)
			text = rest
			continue
		}
		out.WriteString(value)
		text = after
	}
}

// AddLog adds a logger to every chain that serves requests or connections; entry, which may return nil for none, is told the
// format of a line that the chain has by itself.
func (l *Listener) AddLog(entry func(format string) (*accesslogv3.AccessLog, error)) error {
	for _, c := range l.Chains {
		format, list := c.logs()
		if list == nil {
			continue
		}
		e, err := entry(format)
		if err != nil {
			return err
		}
		if e != nil {
			*list = append(*list, e)
		}
	}
	return nil
}

// DropLogs takes all loggers away.
func (l *Listener) DropLogs() {
	for _, c := range l.Chains {
		if _, list := c.logs(); list != nil {
			*list = nil
		}
	}
}

// logs returns the list of loggers of a chain, nil when it can have none.
func (c *Chain) logs() (format string, list *[]*accesslogv3.AccessLog) {
	if h := c.HCM(); h != nil {
		return httpLogFormat, &h.AccessLog
	}
	if tcp := c.TCPProxy(); tcp != nil {
		return tcpLogFormat, &tcp.AccessLog
	}
	return "", nil
}

// NewLog packs a logger.
func NewLog(name string, config proto.Message) (*accesslogv3.AccessLog, error) {
	packed, err := Pack(config)
	if err != nil {
		return nil, err
	}
	return &accesslogv3.AccessLog{Name: name, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed}}, nil
}

// FileLog writes into a file, or into a pipe of the agent.
func FileLog(path string, format *corev3.SubstitutionFormatString) *filev3.FileAccessLog {
	return &filev3.FileAccessLog{Path: path, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format}}
}

// TextLog is the format of lines of text.
func TextLog(line string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: line}},
	}}
}
