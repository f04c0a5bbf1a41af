package dns

import "encoding/binary"

// searchPrefix returns how long the part of a folded name is that stands before a search domain, 0 when it has none.
func searchPrefix(name []byte, domain string) int {
	n := len(name) - len(domain)
	if n <= 0 || string(name[n:]) != domain || !atLabel(name, n) {
		return 0
	}
	return n
}

// searched returns where in a name of the mesh with a search domain behind it that domain begins, otherwise 0.
func (s *Server) searched(name []byte) int {
	if !s.cfg.SearchDomains {
		return 0
	}
	list, t := s.fwd.list.Load(), s.Table()
	if list == nil || t == nil {
		return 0
	}
	var buf [maxName]byte
	for _, domain := range list.conf.search {
		if n := searchPrefix(name, domain); n > 0 {
			copy(buf[:n], name)
			buf[n] = 0
			if t.find(buf[:n+1]) != nil {
				return n
			}
		}
	}
	return 0
}

// appendNoName says that a name does not exist, which its search domain at offset at of the name is made to answer for.
func appendNoName(out, msg []byte, q *query, at int, ttl uint32) []byte {
	start := len(out)
	out = appendStart(out, msg, q, rcodeNXDomain, 0)
	binary.BigEndian.PutUint16(out[start+8:], 1)
	out = appendSOA(out, start, headerLen+at, ttl)
	return appendOPT(out, start, q, rcodeNXDomain, edeNone)
}
