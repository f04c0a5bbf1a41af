//go:build linux

package verify

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// repair is what to do about rules that are not as installed.
const repair = "see what differs with 'kumactl transparent-proxy status', and put it back with --repair"

// foreignRemedy is what to do about rules of others that redirect.
const foreignRemedy = "see the checks foreign.* for who, and remove that rule or exclude the traffic"

// judge says what became of a packet. lost says that the kernel told of more connections than could be read.
func (r *run) judge(p *packet, answer error, lost bool) verdict {
	if p.err != nil {
		return r.unsent(p)
	}
	arrived := p.arrived() // first: what was answered has been seen
	c, seen := r.tracker.find(p.tuple)
	switch {
	case !seen && lost:
		return unknown("this host makes more connections than can be followed", "try again when it is less busy")
	case !seen && p.outside && !arrived:
		return unknown(fmt.Sprintf("what comes from %v by a link made for it does not arrive: a firewall or the filter of reverse paths (rp_filter) drops it", p.from),
			"connect from another host")
	case !seen && p.want == 0:
		return verdict{result: Holds, seen: fmt.Sprintf("went to %v", p.to)}
	case !seen:
		return verdict{Broken, fmt.Sprintf("went to %v: connection tracking does not see it, so that no rule redirects it", p.to), repair}
	}
	v := r.place(p, c.reply.from)
	switch {
	case v.result != Holds:
	case p.zone != 0 && c.zone != p.zone && !p.harmless(c.zone):
		return verdict{Broken, fmt.Sprintf("a query of uid %d to %v is in conntrack zone %d instead of %d", p.uid, p.to, c.zone, p.zone), repair}
	case p.zone != 0:
		v.seen = fmt.Sprintf("uid %d in conntrack zone %d", p.uid, c.zone)
	case p.probe.answer:
		return r.judgeAnswer(p, v, answer)
	}
	return v
}

// harmless reports whether a zone does no harm although it is another: that of a query which is left alone matters only when it is
// the one of queries to kuma-dp, since no answer of its server is there.
func (p *packet) harmless(zone uint16) bool { return zone == 0 && p.excluded }

// place compares where it went with where it has to go.
func (r *run) place(p *packet, went netip.AddrPort) verdict {
	ours := r.ours(went, p.to)
	switch seen := fmt.Sprintf("went to %v", went); {
	case p.want != 0 && ours == p.want:
		return verdict{result: Holds, seen: fmt.Sprintf("went to port %d", went.Port())}
	case p.want != 0 && went == p.to:
		return verdict{Broken, seen + " itself, not redirected", repair}
	case p.want != 0 && ours != 0:
		return verdict{Broken, fmt.Sprintf("went to port %d instead of %d", ours, p.want), repair}
	case p.want != 0:
		return verdict{Broken, fmt.Sprintf("a rule of somebody else sent it to %v", went), foreignRemedy}
	case ours != 0:
		return verdict{Broken, fmt.Sprintf("what was for %v was redirected to port %d", p.to, ours), repair}
	case went != p.to: // as Docker does with queries to its own server
		return verdict{result: Holds, seen: fmt.Sprintf("a rule of somebody else sent it to %v", went)}
	default:
		return verdict{result: Holds, seen: seen}
	}
}

// ours is the port of redirection that a packet went to, 0 for none.
func (r *run) ours(went, to netip.AddrPort) uint16 {
	if went == to {
		return 0
	}
	for _, port := range []uint16{r.in.Config.Outbound.Port, r.in.Config.Inbound.Port, r.in.Config.DNS.Port} {
		if went.Port() == port {
			return port
		}
	}
	return 0
}

// judgeAnswer says whether an application hears of what its query was redirected to.
func (r *run) judgeAnswer(p *packet, v verdict, err error) verdict {
	family := familyOf(p.to.Addr())
	want := netip.AddrPortFrom(localhost[family], p.want)
	stray, lost := r.tracker.stray(p.tuple.from)
	diagnosis := r.listeners.wrong(r.in, family)
	switch {
	case err == nil && r.answerer != nil:
		v.seen += ", where this command answered it as nobody listens yet"
		return v
	case err == nil:
		v.seen += " and was answered"
		return v
	case lost && stray.original.from.Addr() != want.Addr():
		return verdict{Broken, fmt.Sprintf("%s, but the answer comes from %v instead of %v and gets lost", v.seen, stray.original.from, want), diagnosis.orRemedy(listenRemedy(r.in))}
	case lost && diagnosis.seen != "":
		return verdict{Broken, v.seen + ", but the answer gets lost: " + diagnosis.seen, diagnosis.remedy}
	case lost:
		return verdict{Broken, fmt.Sprintf("%s, but the answer is in conntrack zone %d, not in that of the query, and gets lost", v.seen, stray.zone), repair}
	case len(r.listeners.udp) == 0 && r.answerer == nil:
		return unknown(v.seen+", where nobody listens yet: whether answers arrive is not known, "+r.noAnswerer.Error(), "try again when kuma-dp runs")
	case errors.Is(err, unix.ECONNREFUSED):
		return verdict{Broken, fmt.Sprintf("%s, where nobody listens at %v", v.seen, want), diagnosis.orRemedy(listenRemedy(r.in))}
	case diagnosis.seen != "":
		return verdict{Broken, v.seen + ", but no answer came: " + diagnosis.seen, diagnosis.remedy}
	default:
		return unknown(fmt.Sprintf("%s, but kuma-dp did not answer within %s", v.seen, answerTime), "see whether the servers that kuma-dp asks answer")
	}
}
