package inspect

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/policy/meshtls"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxNamed bounds how many peers a line names.
const maxNamed = 5

// StrictChange tells what it means when old is replaced by next, either of which may be nil; nil for what changes no mode. It
// implements api.Config.StrictChange.
func (i *Inspector) StrictChange(old, next *resource.Resource, quiet time.Duration) (*api.StrictChange, error) {
	for _, r := range []*resource.Resource{old, next} {
		if r != nil && r.Kind != meshtls.Name && r.Kind != resource.KindMesh {
			return nil, nil
		}
	}
	before, after, err := i.cfg.Proxies.MTLSModesAfter(old, next)
	if err != nil {
		return nil, err
	}
	out := &api.StrictChange{}
	now := time.Now()
	var peers map[netip.Addr]mtlsPeer // looked for once, if at all
	for n := range after {
		if after[n].Mode != resource.MTLSStrict || before[n].Mode == resource.MTLSStrict {
			continue
		}
		if peers == nil {
			peers = i.peers(after[n].Dataplane.Mesh)
		}
		one := i.mtlsInbound(before[n], quiet, now, peers)
		line := inboundLine(after[n], &one)
		switch one.State {
		case mtlsreport.StateWouldBreak:
			out.Breaks = append(out.Breaks, line)
		case mtlsreport.StateReady, mtlsreport.StateEnforced:
		default:
			out.Unready = append(out.Unready, line)
		}
	}
	return out, nil
}

func inboundLine(m xds.InboundMode, in *mtlsInbound) string {
	var b strings.Builder
	fmt.Fprintf(&b, "port %d of dataplane %s", m.Inbound.Port, in.Dataplane)
	if in.Service != "" {
		fmt.Fprintf(&b, " (service %s)", in.Service)
	}
	fmt.Fprintf(&b, ": %s", in.Why)
	if in.State != mtlsreport.StateWouldBreak {
		return b.String()
	}
	named := 0
	for _, p := range in.Peers {
		if !p.Kind.Served() && p.Kind != mtlsreport.RefusedPlaintext {
			continue
		}
		if named == maxNamed {
			b.WriteString(", …")
			break
		}
		if named == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(", ")
		}
		named++
		b.WriteString(p.Address.String())
		switch {
		case p.Dataplane != "":
			fmt.Fprintf(&b, " (dataplane %s, %s)", p.Dataplane, p.Kind)
		case p.Address.IsLoopback():
			fmt.Fprintf(&b, " (its own host, %s)", p.Kind)
		default:
			fmt.Fprintf(&b, " (%s)", p.Kind)
		}
	}
	return b.String()
}
