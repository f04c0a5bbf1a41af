package dns

import (
	"net/netip"
	"time"
)

// origin says who knew an answer.
type origin uint8

const (
	fromTable    origin = iota // also answers that need no knowledge, such as FORMERR
	fromUpstream               // asked now
	fromCache                  // asked before
)

// quick answers what needs no waiting: from the table first, so that nothing hides a name that enters it. It allocates
// nothing, so that readers of sockets call it for every query they get.
func (s *Server) quick(out, msg []byte, q *query, tcp bool) ([]byte, verdict, origin) {
	answer, v := s.responder.respond(out, msg, q, tcp)
	q.size = len(msg)
	if v != forwarded {
		return answer, v, fromTable
	}
	if at := s.searched(q.name()); at > 0 {
		s.m.shortcuts.Inc()
		return appendNoName(out, msg, q, at, s.Table().ttl), answered, fromTable
	}
	if answer, ok := s.fwd.cache.answer(out, msg, q, tcp); ok {
		return answer, answered, fromCache
	}
	return out, forwarded, fromUpstream
}

// served is an answer that has left.
type served struct {
	q      *query
	answer []byte // without the length of TCP
	client netip.AddrPort
	tcp    bool
	from   origin
	took   time.Duration
}

// finish notes an answer that has left. It allocates nothing and does not wait.
func (s *Server) finish(a served) {
	s.m.count(a.q, a.answer, a.from != fromTable)
	s.m.duration.Observe(a.took.Seconds())
	s.log.add(&a)
}
