package dns

import (
	"hash/maphash"
	"math/bits"
)

// index finds the elements of a slice by a hash of their keys, with a few bytes for each and nothing that the garbage collector
// looks into. Its owner compares the keys. The seed is random: nobody can choose names that collide.
type index struct {
	seed  maphash.Seed
	slots []slot // a power of two, a quarter of them empty at least
}

type slot struct{ hash, next uint32 } // next is the number of the element and one; zero is an empty slot

func newIndex(n int) index {
	return index{seed: maphash.MakeSeed(), slots: make([]slot, 1<<bits.Len(uint(n+n/3)))}
}

func (x *index) hash(key []byte) uint32 { return uint32(maphash.Bytes(x.seed, key)) }

// probe returns the next element from slot i on that may have the hash, and leaves i where it was found. It returns false when
// there is none.
func (x *index) probe(i *uint32, hash uint32) (n int, ok bool) {
	mask := uint32(len(x.slots) - 1)
	for ; ; *i++ {
		switch s := x.slots[*i&mask]; {
		case s.next == 0:
			return 0, false
		case s.hash == hash:
			return int(s.next - 1), true
		}
	}
}

// add makes element n findable.
func (x *index) add(hash uint32, n int) {
	mask := uint32(len(x.slots) - 1)
	i := hash
	for x.slots[i&mask].next != 0 {
		i++
	}
	x.slots[i&mask] = slot{hash, uint32(n + 1)}
}
