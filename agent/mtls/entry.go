package mtls

import (
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// entry is what counting needs of an access log entry (envoy.data.accesslog.v3.AccessLogCommon).
type entry struct {
	remote netip.AddrPort
	http   bool
	// tls is true where Envoy ended TLS, or tried to.
	tls bool
	// unmatched: no chain of the listener is for such a connection.
	unmatched bool
	kind      uint64    // AccessLogType
	failure   string    // of the handshake
	start     time.Time // of the connection or the request, by Envoy's clock
}

// entries calls f for each entry of a StreamAccessLogsMessage{identifier=1, http_logs=2, tcp_logs=3}, and named before with the
// name of the log, which only the first message of a stream has. Entries of peers without an IP address are left out.
func entries(msg []byte, named func(log string), f func(entry)) error {
	return protofield.Each(msg, func(n protowire.Number, val []byte, _ uint64) error {
		switch n {
		case 1:
			log, err := text(val, 2)
			named(log)
			return err
		case 2, 3:
			return protofield.At(val, func(common []byte) error {
				e, err := readEntry(common)
				e.http = n == 2
				if e.remote.IsValid() && err == nil {
					f(e)
				}
				return err
			}, 1, 1)
		}
		return nil
	})
}

func readEntry(common []byte) (e entry, err error) {
	err = protofield.Each(common, func(n protowire.Number, val []byte, num uint64) error {
		switch n {
		case 4:
			e.tls = true
		case 5:
			var err error
			e.start, err = timestamp(val)
			return err
		case 16:
			var err error
			e.unmatched, err = has(val, 9) // ResponseFlags.no_route_found
			return err
		case 20:
			if remote, err := address(field(1, val), 1); err == nil {
				e.remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
			}
		case 28:
			e.failure = string(val)
		case 33:
			e.kind = num
		}
		return nil
	})
	return e, err
}

// timestamp reads a google.protobuf.Timestamp{seconds=1, nanos=2}.
func timestamp(b []byte) (time.Time, error) {
	var seconds, nanos int64
	err := protofield.Each(b, func(n protowire.Number, _ []byte, num uint64) error {
		switch n {
		case 1:
			seconds = int64(num)
		case 2:
			nanos = int64(num)
		}
		return nil
	})
	return time.Unix(seconds, nanos), err
}

// refusals are what BoringSSL says of handshakes, and what that means.
var refusals = []struct {
	text, reason string
	kind         mtlsreport.Kind
}{
	{"HTTP_REQUEST", "it sent an HTTP request in clear", mtlsreport.RefusedPlaintext},
	{"HTTPS_PROXY_REQUEST", "it sent a proxy request in clear", mtlsreport.RefusedPlaintext},
	{"WRONG_VERSION_NUMBER", "it does not speak TLS", mtlsreport.RefusedPlaintext},
	{"PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate", mtlsreport.RefusedNoIdentity},
	{"CERTIFICATE_VERIFY_FAILED", "its certificate is of no authority that is trusted, or expired, or names nobody of the mesh", mtlsreport.RefusedUntrusted},
	{"UNSUPPORTED_PROTOCOL", "its version of TLS is not accepted", mtlsreport.RefusedOtherwise},
	{"NO_SHARED_CIPHER", "it has no cipher that is accepted", mtlsreport.RefusedOtherwise},
}

// refusal reads why a connection was not let in. One that no chain is for speaks no TLS: all strict chains are for TLS alone.
func refusal(e entry) (mtlsreport.Kind, string) {
	failure := e.failure
	for _, r := range refusals {
		if strings.Contains(failure, r.text) {
			return r.kind, r.reason
		}
	}
	if e.unmatched {
		return mtlsreport.RefusedPlaintext, "it does not speak TLS"
	}
	return mtlsreport.RefusedOtherwise, strings.ToValidUTF8(failure[:min(len(failure), mtlsreport.MaxReason)], "")
}
