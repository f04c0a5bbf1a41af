package dns

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	cacheShards   = 8      // so that readers of several sockets seldom wait for each other
	cacheOverhead = 320    // what an entry costs besides its bytes: structure, pointers, its share of the map
	maxKept       = maxUDP // a larger answer is rare, and would push many others out
	staleTTL      = 30     // RFC 8767 §4
	negativeMax   = 30 * time.Second
	failureTTL    = time.Second // the least that RFC 9520 §3.2 allows: a workload must notice that a server is back
)

// cache keeps answers of upstreams. Its methods are safe for concurrent use. A name of the mesh is never looked up here.
type cache struct {
	shards    [cacheShards]shard
	seed      maphash.Seed
	room      int // bytes for each shard; 0: nothing is kept
	maxTTL    time.Duration
	stale     time.Duration
	epoch     atomic.Uint64 // changes with the upstreams
	hits      atomic.Uint64
	misses    atomic.Uint64
	evictions atomic.Uint64
	gaveStale atomic.Uint64
	m         *metrics
}

// shard is a part of the cache. What goes when room is needed is found by SIEVE (Zhang et al., NSDI 2024): a queue in order of
// arrival, through which a hand moves from the oldest to the newest, sparing once what has been asked for since it last came
// by. So names that are asked for once, as search domains make them, go first.
type shard struct {
	mu      sync.Mutex
	entries map[string]*kept
	bytes   int
	newest  *kept
	oldest  *kept
	hand    *kept
}

// kept is an answer. It is not changed once it is in the cache, except for its place there.
type kept struct {
	key     string
	answer  []byte // with id 0
	stored  time.Time
	expires time.Time
	failure bool

	used         bool
	newer, older *kept
}

func (k *kept) size() int { return len(k.key) + len(k.answer) + cacheOverhead }

func newCache(cfg *Config, m *metrics) *cache {
	c := &cache{seed: maphash.MakeSeed(), room: max(cfg.CacheBytes, 0) / cacheShards, maxTTL: cfg.CacheMaxTTL, stale: cfg.ServeStale, m: m}
	for i := range c.shards {
		c.shards[i].entries = map[string]*kept{}
	}
	return c
}

// answer answers a query from what is kept and still valid. It allocates nothing when out has room.
func (c *cache) answer(out, msg []byte, q *query, tcp bool) ([]byte, bool) {
	var buf [keyMax]byte
	key, ok := cacheKey(&buf, msg, q)
	if !ok || c.room == 0 {
		return out, false
	}
	now := time.Now()
	k := c.get(key, now, false)
	if k == nil || !now.Before(k.expires) {
		c.misses.Add(1)
		c.m.cacheMisses.Inc()
		return out, false
	}
	c.hits.Add(1)
	c.m.cacheHits.Inc()
	return k.answerFor(out, msg, q, tcp, now), true
}

// get returns what is kept for a key until it is too old even to be given stale. peek leaves no trace of the question. It
// allocates nothing.
func (c *cache) get(key []byte, now time.Time, peek bool) *kept {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.entries[string(key)]
	switch {
	case k == nil:
		return nil
	case now.Before(k.expires), now.Before(k.expires.Add(c.stale)) && !k.failure:
		if !peek {
			k.used = true
		}
		return k
	}
	if !peek {
		s.remove(k)
	}
	return nil
}

func (c *cache) shard(key []byte) *shard { return &c.shards[maphash.Bytes(c.seed, key)%cacheShards] }

// put keeps an answer to a question asked in an epoch, when it is one that may be kept.
func (c *cache) put(epoch uint64, key []byte, q *query, resp []byte) {
	if c.room == 0 {
		return
	}
	answer, ttl, ok := keepable(resp, q)
	if !ok {
		return
	}
	now := time.Now()
	k := &kept{key: string(key), answer: answer, stored: now, expires: now.Add(min(ttl, c.maxTTL)), failure: failed(answer)}
	if k.size() > c.room {
		return
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.epoch.Load() != epoch {
		return // the upstreams that said so are gone
	}
	if old := s.entries[k.key]; old != nil {
		if k.failure && !old.failure && now.Before(old.expires.Add(c.stale)) {
			return // that is worth more
		}
		s.remove(old)
	}
	for s.bytes+k.size() > c.room {
		s.evict()
		c.evictions.Add(1)
		c.m.cacheEvictions.Inc()
	}
	s.add(k)
}

// flush forgets everything, also what is being asked now.
func (c *cache) flush() {
	c.epoch.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.entries = map[string]*kept{}
		s.bytes, s.newest, s.oldest, s.hand = 0, nil, nil, nil
		s.mu.Unlock()
	}
}

func (c *cache) status() CacheStatus {
	out := CacheStatus{
		MaxBytes: c.room * cacheShards,
		Hits:     c.hits.Load(), Misses: c.misses.Load(), Evictions: c.evictions.Load(), Stale: c.gaveStale.Load(),
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		out.Entries += len(s.entries)
		out.Bytes += s.bytes
		s.mu.Unlock()
	}
	return out
}

func (s *shard) add(k *kept) {
	s.entries[k.key] = k
	s.bytes += k.size()
	k.older = s.newest
	if s.newest != nil {
		s.newest.newer = k
	} else {
		s.oldest = k
	}
	s.newest = k
}

func (s *shard) remove(k *kept) {
	delete(s.entries, k.key)
	s.bytes -= k.size()
	if s.hand == k {
		s.hand = k.newer
	}
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		s.newest = k.older
	}
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		s.oldest = k.newer
	}
	k.newer, k.older = nil, nil
}

// evict removes one entry. There must be one.
func (s *shard) evict() {
	k := s.hand
	for {
		if k == nil {
			k = s.oldest
		}
		if !k.used {
			break
		}
		k.used, k = false, k.newer
	}
	s.hand = k.newer
	s.remove(k)
}

// answerFor writes what is kept as the answer to a query: with its id, its spelling of the name and the time that is left.
// It allocates nothing when out has room.
func (k *kept) answerFor(out, msg []byte, q *query, tcp bool, now time.Time) []byte {
	start := len(out)
	if len(k.answer) > q.limit(tcp) {
		out = appendCut(out, msg, q, k.answer)
		copy(out[start:], msg[:2])
		return out
	}
	out = append(out, k.answer...)
	spell(out[start:], msg, q)
	age, ttl := uint32(now.Sub(k.stored)/time.Second), uint32(0)
	if !now.Before(k.expires) {
		ttl = staleTTL
	}
	countDown(out[start:], q.end, age, ttl)
	return out
}

// spell gives an answer to an equal question the id and the letter case of this one. Owners of records normally point at
// the question, so they follow.
func spell(resp, msg []byte, q *query) {
	copy(resp, msg[:2])
	if resp[5] == 1 {
		copy(resp[headerLen:], msg[headerLen:q.end])
	}
}

// countDown takes age from the TTL of all records of a well-formed answer, or makes it ttl when that is not 0.
func countDown(resp []byte, off int, age, ttl uint32) {
	for off < len(resp) {
		at := skipName(resp, off)
		next := at + 10 + int(binary.BigEndian.Uint16(resp[at+8:]))
		if binary.BigEndian.Uint16(resp[at:]) != typeOPT {
			left := ttl
			if old := binary.BigEndian.Uint32(resp[at+4:]); ttl == 0 && old > age {
				left = old - age
			}
			binary.BigEndian.PutUint32(resp[at+4:], left)
		}
		off = next
	}
}
