package dns

import (
	"net/netip"
	"strings"
	"time"
)

// Status is what a Server is doing, for people to look at.
type Status struct {
	Addresses     []netip.AddrPort `json:"addresses"`
	Table         TableStatus      `json:"table"`
	ResolvConf    string           `json:"resolvConf,omitempty"` // the file that named the upstreams; empty when the configuration did
	Upstreams     []UpstreamStatus `json:"upstreams"`
	SearchDomains []string         `json:"searchDomains,omitempty"`
	Cache         CacheStatus      `json:"cache"`
	Waiting       int              `json:"waiting"`    // queries that wait for upstreams
	MaxWaiting    int              `json:"maxWaiting"` // more are answered SERVFAIL
	Shared        uint64           `json:"shared"`     // queries that waited for the answer to an equal one
	QueryLog      QueryLogStatus   `json:"queryLog"`
}

// TableStatus describes the names of the mesh.
type TableStatus struct {
	Loaded  bool       `json:"loaded"` // false: names that may be the mesh's are held back
	Names   int        `json:"names"`
	Skipped int        `json:"skipped,omitempty"` // records that could not be served
	Loads   uint64     `json:"loads"`             // how often a table was set
	Changed *time.Time `json:"changed,omitempty"` // when last
	Source  string     `json:"source,omitempty"`  // who gave it, see SetTableSource
}

// UpstreamStatus describes one name server.
type UpstreamStatus struct {
	Address   netip.AddrPort `json:"address"`
	State     string         `json:"state"`    // up, down, looped (it sends our queries back) or self (it is this resolver)
	Queries   uint64         `json:"queries"`  // probes not included
	Failures  uint64         `json:"failures"` // queries without a usable answer
	InARow    int            `json:"inARow"`   // failures since the last answer
	LastGood  *time.Time     `json:"lastGood,omitempty"`
	LastError string         `json:"lastError,omitempty"`
	LatencyMS float64        `json:"latencyMs"` // smoothed; 0 before the first answer
}

// CacheStatus describes the answers of upstreams that are kept.
type CacheStatus struct {
	Entries   int    `json:"entries"`
	Bytes     int    `json:"bytes"`
	MaxBytes  int    `json:"maxBytes"` // 0: no cache
	Hits      uint64 `json:"hits"`
	Misses    uint64 `json:"misses"`
	Evictions uint64 `json:"evictions"`
	Stale     uint64 `json:"stale"` // answers given after their time because no upstream answered
}

// QueryLogStatus describes the query log.
type QueryLogStatus struct {
	Mode    QueryLog `json:"mode"`
	Dropped uint64   `json:"dropped"` // lines lost because the log was slower than the queries
}

// SetTableSource notes who gives the tables, for Status to show.
func (s *Server) SetTableSource(source string) { s.tableSource.Store(&source) }

// Status returns what the server is doing now. The parts are not of one instant.
func (s *Server) Status() Status {
	out := Status{
		Addresses: s.Addrs(), Table: s.tableStatus(), Upstreams: []UpstreamStatus{},
		Waiting: len(s.inflight), MaxWaiting: cap(s.inflight), Shared: s.fwd.flights.shared.Load(), QueryLog: QueryLogStatus{Mode: s.cfg.QueryLog},
	}
	out.Cache = s.fwd.cache.status()
	if s.log != nil {
		out.QueryLog.Dropped = s.log.dropped.Load()
	}
	if len(s.cfg.Upstreams) == 0 {
		out.ResolvConf = s.cfg.ResolvConf
	}
	list := s.fwd.list.Load()
	if list == nil {
		return out
	}
	if list.conf.path != "" {
		out.ResolvConf = list.conf.path
	}
	for _, u := range list.servers {
		out.Upstreams = append(out.Upstreams, u.status())
	}
	for _, addr := range list.self {
		out.Upstreams = append(out.Upstreams, UpstreamStatus{Address: addr, State: "self"})
	}
	for _, domain := range list.conf.search {
		out.SearchDomains = append(out.SearchDomains, strings.TrimSuffix(string(appendDotted(nil, []byte(domain))), "."))
	}
	return out
}

func (s *Server) tableStatus() TableStatus {
	var out TableStatus
	out.Loads = s.tableLoads.Load()
	if source := s.tableSource.Load(); source != nil {
		out.Source = *source
	}
	if t := s.Table(); t != nil {
		out.Loaded, out.Names, out.Skipped, out.Changed = true, t.Len(), len(t.skipped), s.tableChanged.Load()
	}
	return out
}
