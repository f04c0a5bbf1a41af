package hostname

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/kuma-dp/kuma-dp/resource"
)

// errExhausted: every address of the range is in use.
var errExhausted = errors.New("no address is free")

// pool hands out the addresses of a range. It keeps nothing but what it is told: addresses survive a restart because
// they are reserved again from the stored statuses (contract dns.md §2.2). It is not safe for concurrent use.
type pool struct {
	prefix netip.Prefix
	// size is the number of addresses, as far as it fits.
	size   uint64
	cursor netip.Addr
	owner  map[netip.Addr]resource.Key
}

// newPool makes a pool of a range such as 241.0.0.0/8. Its first address, the one of the network, is used too.
func newPool(prefix netip.Prefix) (*pool, error) {
	if !prefix.IsValid() {
		return nil, errors.New("make an address pool: the range is not valid")
	}
	prefix = prefix.Masked()
	size := uint64(math.MaxUint64)
	if host := prefix.Addr().BitLen() - prefix.Bits(); host < 64 {
		size = 1 << host
	}
	return &pool{prefix: prefix, size: size, cursor: prefix.Addr(), owner: map[netip.Addr]resource.Key{}}, nil
}

// reserve notes that owner uses addr, and tells whether it may: nobody else does. An address outside the range belongs
// to others, and is never refused or noted.
func (p *pool) reserve(addr netip.Addr, owner resource.Key) bool {
	if !p.prefix.Contains(addr) {
		return true
	}
	if has, used := p.owner[addr]; used {
		return has == owner
	}
	p.owner[addr] = owner
	return true
}

// next gives owner the next free address. The search goes on behind the last address that was handed out and begins
// again at the end of the range, so that a released address comes back as late as possible: clients may still have it
// in a DNS cache.
func (p *pool) next(owner resource.Key) (netip.Addr, error) {
	if p.inUse() >= p.size {
		return netip.Addr{}, fmt.Errorf("allocate an address of %s: %w", p.prefix, errExhausted)
	}
	for {
		addr := p.cursor
		p.cursor = addr.Next()
		if !p.cursor.IsValid() || !p.prefix.Contains(p.cursor) {
			p.cursor = p.prefix.Addr()
		}
		if _, used := p.owner[addr]; !used {
			p.owner[addr] = owner
			return addr, nil
		}
	}
}

// release frees addr if owner has it.
func (p *pool) release(addr netip.Addr, owner resource.Key) {
	if p.owner[addr] == owner {
		delete(p.owner, addr)
	}
}

// inUse counts the addresses of the range that are reserved or handed out.
func (p *pool) inUse() uint64 { return uint64(len(p.owner)) }
