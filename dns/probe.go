package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// gauge counts the upstreams that are being asked.
func (f *forwarder) gauge() {
	n := 0
	for _, u := range f.list.Load().servers {
		if u.usable() {
			n++
		}
	}
	f.m.upstreamsUp.Set(float64(n))
}

func (f *forwarder) wentUp(u *upstream) {
	f.gauge()
	f.cfg.Log.Info("upstream answers again", slog.String("upstream", u.addr.String()))
}

// wentDown starts asking whether the upstream is back, unless that goes on already.
func (f *forwarder) wentDown(list *upstreams, u *upstream, err error, probe bool) {
	f.gauge()
	f.cfg.Log.Warn("upstream does not answer", slog.String("upstream", u.addr.String()), slog.Any("error", err))
	if !probe {
		return
	}
	f.wg.Go(func() {
		for pause := probeFirst; ; pause = min(2*pause, probeLast) {
			t := time.NewTimer(pause)
			select {
			case <-list.ctx.Done():
			case <-u.kick:
			case <-t.C:
			}
			t.Stop()
			if list.ctx.Err() != nil || !u.needsProbe() {
				return
			}
			f.probe(list, u)
		}
	})
}

// probe asks for the servers of the root, which every resolver knows without asking, or for a canary. Any answer will do.
func (f *forwarder) probe(list *upstreams, u *upstream) {
	ctx, cancel := context.WithTimeout(list.ctx, probeTimeout)
	defer cancel()
	msg := []byte{0, 0, flagRD >> 8, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	if u.canary != nil {
		msg = append(append(msg, newLabel(4)...), u.canary...)
		msg = append(msg, 0, typeA, 0, classIN)
	} else {
		msg = append(msg, 0, 0, 2, 0, classIN) // ". NS"
	}
	x := f.begin(list, u, &job{msg: msg, end: len(msg), size: minUDP}, time.Now().Add(probeTimeout))
	if resp, _ := x.finish(ctx); resp != nil && !u.looped.Load() && u.good() {
		f.wentUp(u)
	}
}

// newLabel returns a label of random digits in wire form.
func newLabel(bytes int) []byte {
	random := make([]byte, bytes)
	_, _ = rand.Read(random) // never fails
	return append([]byte{byte(2 * bytes)}, hex.EncodeToString(random)...)
}

// newCanary returns the end of names that nobody asks for except our probes of one upstream. A name server on this host may
// be one whose own queries are redirected to us: they come from its socket, so only the name tells that they are ours
// (contract dns.md §4.6). Each probe puts a label in front, which keeps it out of caches.
func newCanary() []byte { return append(newLabel(16), 0) }

// mayRelay says whether a server is on this host and on the port that redirection knows.
func mayRelay(addr netip.AddrPort) bool {
	ip := addr.Addr().Unmap()
	return addr.Port() == portDNS && (ip.IsLoopback() || isLocal(ip))
}

// looped says whether a query from src is our own. If so its upstream is not asked again.
func (f *forwarder) looped(src netip.AddrPort) bool {
	u := f.sockets.from(netip.AddrPortFrom(src.Addr().Unmap(), src.Port()))
	if u == nil {
		return false
	}
	f.giveUp(u)
	return true
}

// isCanary says whether a name is that of one of our probes. If so its upstream is not asked again.
func (f *forwarder) isCanary(name []byte) bool {
	list := f.list.Load()
	if list == nil {
		return false
	}
	for _, u := range list.servers {
		if u.canary != nil && bytes.HasSuffix(name, u.canary) {
			f.giveUp(u)
			return true
		}
	}
	return false
}

func (f *forwarder) giveUp(u *upstream) {
	f.m.loops.Inc()
	if !u.looped.CompareAndSwap(false, true) {
		return
	}
	f.sockets.interrupt(u)
	f.gauge()
	f.cfg.Log.Warn("upstream sends queries back to this resolver, not asking it any more; "+
		"run the agent as the user that redirection exempts, or redirect only the traffic to the servers of resolv.conf",
		slog.String("upstream", u.addr.String()))
}

// isSelf says whether queries to addr would arrive at our own sockets.
func (f *forwarder) isSelf(addr netip.AddrPort) bool {
	ip := addr.Addr().Unmap()
	for _, own := range f.own {
		if own.Port() != addr.Port() {
			continue
		}
		if own.Addr().Unmap() == ip || (ip.IsUnspecified() && own.Addr().IsLoopback()) ||
			(own.Addr().IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified() || isLocal(ip))) {
			return true
		}
	}
	return false
}

func isLocal(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip.WithZone("") {
			return true
		}
	}
	return false
}
