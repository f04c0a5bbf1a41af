package dns

import "encoding/binary"

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
		// Where a label is cut in two, what is left is no name and so not in the table.
		if n := len(name) - len(domain); n > 0 && string(name[n:]) == domain {
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
