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
)

// quick answers what needs no waiting. It allocates nothing, so that readers of sockets call it for every query they get.
func (s *Server) quick(out, msg []byte, q *query, tcp bool) ([]byte, verdict, origin) {
	answer, v := s.responder.respond(out, msg, q, tcp)
	return answer, v, fromTable
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
	s.m.count(a.q, a.answer, a.from == fromUpstream)
	s.m.duration.Observe(a.took.Seconds())
}
