package effect

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// OTLPPort is the port of an OpenTelemetry collector that is named without one.
const OTLPPort = 4317

// SplitCollector reads host, host:port, or [IPv6]:port; the port is OTLPPort when there is none, and 0 when it is no number
// (contract effects-security.md §6). It is false without a host: no cluster can be made of that.
func SplitCollector(endpoint string) (host string, port uint32, ok bool) {
	if _, err := netip.ParseAddr(endpoint); err == nil {
		return endpoint, OTLPPort, true
	}
	host, text, given := strings.Cut(endpoint, ":")
	if rest, found := strings.CutPrefix(endpoint, "["); found {
		host, text, _ = strings.Cut(rest, "]")
		text, given = strings.CutPrefix(text, ":")
	}
	if !given {
		return host, OTLPPort, host != ""
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		n = 0
	}
	return host, uint32(n), host != ""
}

// NewCollector makes the cluster of a server outside of the mesh that takes logs, metrics or spans (contract
// effects-security.md §5 to §7).
func NewCollector(name, host string, port uint32, http2 bool) *Cluster {
	c := NewCluster(name)
	c.ConnectTimeout = durationpb.New(5 * time.Second)
	c.SetStatic(host, port)
	if http2 {
		c.HTTP = HTTPOptions(true)
	}
	return c
}
