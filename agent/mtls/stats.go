package mtls

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// maxStats bounds what is read of Envoy's answer, in bytes.
const maxStats = 4 << 20

// counts asks Envoy how many connections and requests came with mTLS: connections are the handshakes of a listener, requests
// those of the statistics that its chains share, without those of chains that end no mTLS.
func (m *Monitor) counts(ctx context.Context) (map[netip.AddrPort]mtlsreport.Count, error) {
	type place struct {
		handshakes, active string
		requests           []string
		clear              uint64 // requests without mTLS
		name               string
	}
	places := map[netip.AddrPort]place{}
	m.mu.Lock()
	for name, in := range m.inbounds {
		if in.mode == mtlsreport.Off {
			continue
		}
		p := place{handshakes: "listener." + statName(in.address) + ".ssl.handshake", active: "listener." + statName(in.address) + ".downstream_cx_active", name: name}
		for _, prefix := range in.requests {
			if name := "http." + prefix + ".downstream_rq_total"; !slices.Contains(p.requests, name) {
				p.requests = append(p.requests, name)
			}
		}
		p.clear = in.served[mtlsreport.Plaintext].Requests + in.served[mtlsreport.ForeignTLS].Requests
		places[in.address] = p
	}
	m.mu.Unlock()
	if len(places) == 0 {
		return nil, nil
	}
	const filter = `^(listener\..*\.(ssl\.handshake|downstream_cx_active)|http\..*\.downstream_rq_total)$`
	body, err := m.cfg.Stats(ctx, "/stats?"+url.Values{"filter": {filter}}.Encode())
	if err != nil {
		return nil, fmt.Errorf("ask envoy for statistics of inbounds: %w", err)
	}
	defer body.Close()
	values, err := readStats(io.LimitReader(body, maxStats))
	if err != nil {
		return nil, fmt.Errorf("read envoy's statistics of inbounds: %w", err)
	}
	out := map[netip.AddrPort]mtlsreport.Count{}
	for addr, p := range places {
		c := mtlsreport.Count{Connections: values[p.handshakes]}
		for _, name := range p.requests {
			c.Requests += values[name]
		}
		c.Requests -= min(c.Requests, p.clear)
		if c.Connections == 0 {
			c.Requests = 0 // what is left is under way to us
		}
		out[addr] = c
		if active, known := values[p.active]; known && active == 0 {
			m.idle(p.name)
		}
	}
	return out, nil
}

// idle corrects what a lost message has left: there is no connection.
func (m *Monitor) idle(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if in := m.inbounds[name]; in != nil {
		for remote, p := range in.open {
			in.closed(remote, p)
		}
	}
}

// statName is an address in the names of Envoy's statistics.
func statName(a netip.AddrPort) string { return strings.ReplaceAll(a.String(), ":", "_") }

// readStats reads lines of a name, a colon and a number; others are skipped.
func readStats(r io.Reader) (map[string]uint64, error) {
	out := map[string]uint64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ": ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out, lines.Err()
}
