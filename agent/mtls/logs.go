package mtls

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// logDelay is how long Envoy may keep entries back, to send several at once.
const logDelay = 200 * time.Millisecond

// Logs are told apart by their name: what they are of, a space, and the listener. Chains have the kind of their peers.
const ofListener = "listener"

func logName(of, listener string) string { return of + " " + listener }

func splitLogName(name string) (of, listener string) {
	of, listener, _ = strings.Cut(name, " ")
	return of, listener
}

// logger is a kind of access log that Envoy sends over gRPC (envoy.extensions.access_loggers.grpc.v3): its name, and its type
// with that of what configures all of them in field 1.
type logger struct{ name, typeURL string }

var (
	httpLog = logger{"envoy.access_loggers.http_grpc", "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"}
	tcpLog  = logger{"envoy.access_loggers.tcp_grpc", "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"}
)

// Values of envoy.data.accesslog.v3.AccessLogType.
const (
	upstreamConnected = 1
	connectionEnd     = 3
	requestStart      = 4
	requestEnd        = 6
)

// logFields is where a network filter has its logs, and what ours is to hear of.
type logFields struct {
	log, options, interval, flush protowire.Number
	logger                        logger
	begin, end                    uint64
	// failed are the response flags of what has no beginning.
	failed []string
}

// chainLogs is by the type of a filter. Of HTTP, what cannot be read as a request has only an end; of TCP, a connection for
// which the workload is not there.
var chainLogs = map[string]logFields{
	hcmType:      {13, 56, 54, 55, httpLog, requestStart, requestEnd, []string{"DPE"}},
	tcpProxyType: {5, 17, 15, 16, tcpLog, upstreamConnected, connectionEnd, []string{"UF", "UH", "UO", "URX", "NR", "NC"}},
}

// filter is AccessLogFilter.or_filter of log_type_filter{types} and of what failed: and_filter of log_type_filter{types} and
// response_flag_filter{flags}.
func (f logFields) filter() []byte {
	var flags []byte
	for _, flag := range f.failed {
		flags = message(flags, 1, []byte(flag))
	}
	return either(field(13, number(1, f.begin)), all(field(13, number(1, f.end)), field(9, flags)))
}

// log is an AccessLog{name=1, filter=2, typed_config=4} of CommonGrpcAccessLogConfig{log_name=1, grpc_service=2,
// buffer_flush_interval=3, transport_api_version=6}.
func (w rewriter) log(kind logger, name string, filter []byte) []byte {
	common := field(1, field(1, []byte(name)), field(2, field(1, field(1, []byte(w.cluster)))), field(3, number(2, uint64(logDelay))), number(6, 2))
	out := field(1, []byte(kind.name))
	if filter != nil {
		out = message(out, 2, filter)
	}
	return message(out, 4, field(1, []byte(kind.typeURL)), field(2, common))
}
