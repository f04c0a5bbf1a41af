//go:build linux

package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// run is one verification.
type run struct {
	in         Input
	plan       *tp.Plan
	model      model
	sites      map[tp.Family]site
	tracker    *tracker // nil when connection tracking tells nothing, see blind
	blind      error
	outside    *outside
	answerer   *answerer // nil when somebody listens, or when it cannot be had, see noAnswerer
	noAnswerer error
	listeners  listeners
	// answered are the families in which kuma-dp, or who answers for it, answered.
	answered map[tp.Family]bool
}

func newRun(ctx context.Context, in Input, plan *tp.Plan) (_ *run, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &run{in: in, plan: plan, sites: map[tp.Family]site{}, answered: map[tp.Family]bool{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	own, err := addresses()
	if err != nil {
		return nil, err
	}
	r.model = model{cfg: in.Config, proxy: in.Host.UID, servers: nil, local: func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(own, a) }}
	for _, a := range in.Host.Nameservers {
		r.model.servers = append(r.model.servers, a.WithZone(""))
	}
	if r.listeners, err = findListeners(in.Config); err != nil {
		return nil, err
	}
	if r.tracker, r.blind = newTracker(in.Config.DNS.Port); r.blind != nil && !errors.Is(r.blind, errNoEvents) {
		return nil, r.blind
	}
	var families []tp.Family
	for _, f := range plan.Families {
		families = append(families, f.Family)
	}
	var noPeer error
	if r.outside, noPeer = newOutside(families); noPeer != nil {
		r.outside = nil
	}
	for _, f := range families {
		s := site{family: f, far: ranges[f][0].Addr().Next()}
		if r.outside != nil {
			s.peer = r.outside.addrs[f].peer.Addr()
			s.far = s.peer // which never leaves this host
		} else {
			s.noPeer = noPeer.Error()
		}
		for _, a := range own {
			if familyOf(a) == f && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !s.self.IsValid() && a != passthrough[f] {
				s.self = a
			}
		}
		if !s.self.IsValid() && r.outside != nil { // a host that has link-local addresses alone: the link's is as good
			s.self = r.outside.addrs[f].near.Addr()
			own = append(own, s.self)
		}
		r.sites[f] = s
	}
	return r, nil
}

func (r *run) close() {
	r.answerer.close()
	if r.tracker != nil {
		r.tracker.close()
	}
	if r.outside != nil {
		_ = r.outside.close() // gone anyway, when this process ends
	}
}

// addresses lists those of this host, before the link to the outside is made.
func addresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses of this host: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// promises are those of all families that are redirected.
func (r *run) promises() []promise {
	var out []promise
	for _, f := range r.plan.Families {
		b := &promiser{model: r.model, site: r.sites[f.Family]}
		b.app, b.noApp = r.application()
		for _, t := range f.Tables {
			b.zones = b.zones || t.Name == tp.TableRaw
		}
		out = append(out, b.promises()...)
	}
	return out
}

// application picks a user that is neither kuma-dp's nor excluded, the one of this process if it can be no other.
func (r *run) application() (uid uint32, none bool) {
	candidates := []uint32{1000, 1001, 65533, 0}
	for _, e := range r.in.Config.Outbound.ExcludeUIDs {
		candidates = append(candidates, e.UIDs.Last+1, e.UIDs.First-1)
	}
	self := uint32(os.Geteuid())
	if asUser(self+1, func() error { return nil }) != nil {
		candidates = []uint32{self}
	}
	for _, uid := range candidates {
		if uid != r.in.Host.UID && uid != ^uint32(0) && !slices.ContainsFunc(r.in.Config.Outbound.ExcludeUIDs, func(e tp.UIDExclusion) bool {
			return e.UIDs.First <= uid && uid <= e.UIDs.Last
		}) {
			return uid, false
		}
	}
	return self, true
}

// packets tries all promises at once, and those again of which nothing was seen: something else may have been in the way.
func (r *run) packets(ctx context.Context) []Check {
	list := r.promises()
	checks := make([]Check, len(list))
	for i, p := range list {
		checks[i] = Check{ID: p.id, Promise: p.words, Result: Unknown, Seen: p.untried, Remedy: untriedRemedy(p.untried)}
		if p.untried == "" && r.blind != nil {
			checks[i].Seen, checks[i].Remedy = "nothing can be seen", r.blind.Error()
		}
	}
	if r.blind != nil {
		return checks
	}
	r.answer()
	for again := range 2 {
		if again > 0 && (ctx.Err() != nil || !slices.ContainsFunc(list, func(p promise) bool { return len(p.probes) > 0 })) {
			break
		}
		r.round(ctx, list, checks)
		for i := range list {
			if checks[i].Result != Unknown {
				list[i].probes = nil
			}
		}
	}
	return checks
}

// answer stands in for kuma-dp as long as nobody listens in its place.
func (r *run) answer() {
	if !r.in.Config.DNS.On() || len(r.listeners.udp) > 0 {
		return
	}
	var families []tp.Family
	for f := range r.sites {
		families = append(families, f)
	}
	r.answerer, r.noAnswerer = newAnswerer(r.in.Host.UID, r.in.Config.DNS.Port, families)
}

// round sends what is left to send and judges it.
func (r *run) round(ctx context.Context, list []promise, checks []Check) {
	var sent []*packet
	defer func() {
		for _, p := range sent {
			if c, ok := r.tracker.find(p.tuple); ok {
				c.forget()
			}
			p.close()
		}
	}()
	of := make([][]*packet, len(list))
	_ = r.tracker.overflown() // before
	for i, p := range list {
		for _, probe := range p.probes {
			var out *packet
			if probe.outside {
				out = r.outside.send(r.tracker, probe)
			} else {
				out = send(r.tracker, probe)
			}
			of[i] = append(of[i], out)
			sent = append(sent, out)
		}
	}
	r.await(ctx, sent)
	answers := r.awaitAnswers(ctx, sent)
	lost := r.tracker.overflown()
	for i, p := range list {
		if len(p.probes) == 0 {
			continue
		}
		var verdicts []verdict
		for _, s := range of[i] {
			verdicts = append(verdicts, r.judge(s, answers[s], lost))
		}
		checks[i] = combine(p, verdicts)
	}
}

// await returns as soon as every packet was seen.
func (r *run) await(ctx context.Context, sent []*packet) {
	ctx, cancel := context.WithTimeout(ctx, packetTime)
	defer cancel()
	for {
		if !slices.ContainsFunc(sent, func(p *packet) bool {
			_, ok := r.tracker.find(p.tuple)
			return p.err == nil && !ok
		}) {
			return
		}
		select {
		case <-r.tracker.news:
		case <-ctx.Done():
			return
		}
	}
}

// awaitAnswers waits for all answers, until what is missing got lost for certain.
func (r *run) awaitAnswers(ctx context.Context, sent []*packet) map[*packet]error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	type result struct {
		p   *packet
		err error
	}
	results := make(chan result)
	waiting := 0
	until, _ := ctx.Deadline()
	for _, p := range sent {
		c, seen := r.tracker.find(p.tuple)
		if !p.probe.answer || p.err != nil || !seen || c.reply.from.Port() != p.want {
			continue
		}
		waiting++
		_ = p.conn.SetReadDeadline(until)
		go func() {
			buf := make([]byte, 512)
			_, err := p.conn.Read(buf)
			results <- result{p, err}
		}()
	}
	out := map[*packet]error{}
	done := ctx.Done()
	for len(out) < waiting {
		select {
		case <-done:
			done = nil
			for _, p := range sent {
				if p.conn != nil {
					_ = p.conn.SetReadDeadline(time.Now())
				}
			}
		case got := <-results:
			out[got.p] = got.err
			if got.err == nil {
				r.answered[familyOf(got.p.to.Addr())] = true
			}
		case <-r.tracker.news:
			for _, p := range sent { // what the kernel does not take for the answer never arrives as one
				if _, lost := r.tracker.stray(p.tuple.from); lost && p.conn != nil {
					_ = p.conn.SetReadDeadline(time.Now())
				}
			}
		}
	}
	return out
}

// unsent has words for why a packet could not be sent.
func (r *run) unsent(p *packet) verdict {
	switch err := p.err; {
	case errors.Is(err, errUser):
		return unknown(err.Error(), "run it as root, or give the container CAP_SETUID")
	case errors.Is(err, unix.EPERM) && p.want != 0:
		return verdict{Broken, fmt.Sprintf("a firewall of this host drops what is sent to %v", p.to), "let a rule of the firewall accept it"}
	case errors.Is(err, unix.EPERM):
		return unknown(fmt.Sprintf("a firewall of this host drops what is sent to %v", p.to), "")
	case errors.Is(err, unix.EINVAL) && p.want != 0: // from loopback, and not to there any more
		return verdict{Broken, fmt.Sprintf("a rule of somebody else sends what is for %v to where it cannot go", p.to), foreignRemedy}
	case errors.Is(err, unix.EINVAL):
		return unknown(fmt.Sprintf("a rule of somebody else sends what is for %v to where it cannot go", p.to), foreignRemedy)
	case errors.Is(err, unix.EADDRNOTAVAIL) && p.from == passthrough[familyOf(p.to.Addr())]:
		return verdict{Broken, fmt.Sprintf("loopback lacks the address %v", p.from), repair}
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return unknown(fmt.Sprintf("this host has no route to %v", p.to.Addr()), "")
	default:
		return unknown(fmt.Sprintf("no packet to %v could be sent: %v", p.to, err), "")
	}
}
