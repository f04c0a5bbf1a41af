package mtls

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

const (
	hcmType      = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	tcpProxyType = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
)

// inboundPrefix begins the names of the listeners in front of a workload (contract effects-security.md §1.3), and
// catchAll those of other inbound listeners.
const (
	inboundPrefix = "inbound:"
	catchAll      = "inbound:passthrough:"
)

// listener is what counting needs to know of an inbound listener.
type listener struct {
	address netip.AddrPort
	mode    mtlsreport.Mode
	// requests are the prefixes of the HTTP statistics of its chains; none for protocols without requests.
	requests []string
}

// rewriter adds access logs to listeners. Resources pass through the agent as bytes, so that only what is changed is taken
// apart: a repeated field grows by what is appended, and a message of a message gets a new length.
type rewriter struct{ cluster string }

// listener describes an inbound listener and returns it with logs of connections without an identity of the mesh: the chains
// that end no mTLS tell of each request or connection as it begins, and the listener of each connection that ends, which is
// how those are seen that no chain let in. A listener of a mesh without mTLS stays as it is.
//
// Field numbers are those of envoy.config.listener.v3: Listener{address=2, filter_chains=3, access_log=22},
// FilterChain{filter_chain_match=1, filters=3, transport_socket=6}, FilterChainMatch{transport_protocol=9},
// Filter{typed_config=4}.
func (w rewriter) listener(name string, body []byte) (*listener, []byte, error) {
	l := &listener{}
	var err error
	if l.address, err = address(body, 2); err != nil {
		return nil, nil, err
	}
	ended, open := 0, 0 // chains that end mTLS, and others
	if err := protofield.At(body, func(chain []byte) error {
		mtls, err := has(chain, 6)
		if mtls {
			ended++
		} else {
			open++
		}
		return err
	}, 3); err != nil {
		return nil, nil, err
	}
	switch {
	case ended == 0:
		l.mode = mtlsreport.Off
		return l, body, nil
	case open == 0:
		l.mode = mtlsreport.Strict
	default:
		l.mode = mtlsreport.Permissive
	}
	out := make([]byte, 0, len(body)+2<<10)
	if err := protofield.Raw(body, func(n protowire.Number, val []byte, _ uint64, raw []byte) error {
		if n != 3 {
			out = append(out, raw...)
			return nil
		}
		chain, err := w.chain(l, name, val)
		out = message(out, 3, chain)
		return err
	}); err != nil {
		return nil, nil, err
	}
	return l, message(out, 22, w.log(tcpLog, logName(ofListener, name), nil)), nil
}

func (w rewriter) chain(l *listener, name string, chain []byte) ([]byte, error) {
	mtls, err := has(chain, 6)
	if err != nil {
		return nil, err
	}
	protocol, err := text(chain, 1, 9)
	if err != nil {
		return nil, err
	}
	of := string(mtlsreport.Plaintext)
	if protocol == "tls" {
		of = string(mtlsreport.ForeignTLS)
	}
	var out []byte
	err = protofield.Raw(chain, func(n protowire.Number, filter []byte, _ uint64, raw []byte) error {
		if n != 3 {
			out = append(out, raw...)
			return nil
		}
		next, err := w.filter(l, mtls, logName(of, name), filter)
		out = message(out, 3, next)
		return err
	})
	return out, err
}

// filter notes where the requests of an HTTP filter are counted and adds the log where the chain ends no mTLS.
func (w rewriter) filter(l *listener, mtls bool, log string, filter []byte) ([]byte, error) {
	var out []byte
	err := protofield.Raw(filter, func(n protowire.Number, typed []byte, _ uint64, raw []byte) error {
		if n != 4 {
			out = append(out, raw...)
			return nil
		}
		kind, err := text(typed, 1)
		if err != nil {
			return err
		}
		logs, known := chainLogs[kind]
		if kind == hcmType {
			prefix, err := text(typed, 2, 2)
			if err != nil {
				return err
			}
			l.requests = append(l.requests, prefix)
		}
		if !known || mtls {
			out = append(out, raw...)
			return nil
		}
		var any []byte
		if err := protofield.Raw(typed, func(n protowire.Number, config []byte, _ uint64, raw []byte) error {
			if n != 2 {
				any = append(any, raw...)
				return nil
			}
			next, err := w.logged(logs, log, config)
			any = message(any, 2, next)
			return err
		}); err != nil {
			return err
		}
		out = message(out, 4, any)
		return nil
	})
	return out, err
}

// logged adds the log to a filter's configuration. Envoy is to tell of what begins, not only of what has ended, which it then
// tells to all logs: those that were there before go on hearing of ends alone.
func (w rewriter) logged(logs logFields, log string, config []byte) ([]byte, error) {
	begins, deprecated := false, false
	err := protofield.Each(config, func(n protowire.Number, val []byte, num uint64) error {
		switch n {
		case logs.flush: // the older field, which excludes the newer
			begins = begins || num != 0
			deprecated = true
		case logs.interval:
			deprecated = true
		case logs.options:
			return protofield.Each(val, func(n protowire.Number, _ []byte, num uint64) error {
				begins = begins || n == 2 && num != 0
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []byte
	if err := protofield.Raw(config, func(n protowire.Number, val []byte, _ uint64, raw []byte) error {
		if n != logs.log || begins {
			out = append(out, raw...)
			return nil
		}
		only, err := endsOnly(val, logs.begin)
		out = message(out, n, only)
		return err
	}); err != nil {
		return nil, err
	}
	if deprecated {
		out = append(out, number(logs.flush, 1)...)
	} else {
		out = message(out, logs.options, number(2, 1)) // merged with what is there
	}
	return message(out, logs.log, w.log(logs.logger, log, logs.filter())), nil
}

// endsOnly keeps an AccessLog{filter=2} from what begins: what else its filter asks for stays.
func endsOnly(log []byte, begin uint64) ([]byte, error) {
	filter := field(13, number(1, begin), number(2, 1)) // AccessLogFilter.log_type_filter{types, exclude}
	var out []byte
	err := protofield.Raw(log, func(n protowire.Number, val []byte, _ uint64, raw []byte) error {
		if n == 2 {
			filter = all(val, filter)
			return nil
		}
		out = append(out, raw...)
		return nil
	})
	return message(out, 2, filter), err
}

// all and either are AccessLogFilters of two others: and_filter{filters=1} and or_filter{filters=2}.
func all(a, b []byte) []byte    { return field(6, field(1, a), field(1, b)) }
func either(a, b []byte) []byte { return field(7, field(2, a), field(2, b)) }

func address(listener []byte, number protowire.Number) (netip.AddrPort, error) {
	var ip string
	var port uint64
	err := protofield.At(listener, func(socket []byte) error {
		return protofield.Each(socket, func(n protowire.Number, val []byte, num uint64) error {
			switch n {
			case 2:
				ip = string(val)
			case 3:
				port = num
			}
			return nil
		})
	}, number, 1)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || port == 0 || port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("%q with port %d is no address", ip, port)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// inFront tells whether a listener is in front of the workload.
func inFront(name string) bool {
	return strings.HasPrefix(name, inboundPrefix) && !strings.HasPrefix(name, catchAll)
}
