package xds

import "sync"

// partCache remembers parts of snapshots by the inputs that they were made from. It keeps two generations: when the
// young one is full the old one is dropped, so what nobody asks for goes away without anybody counting references.
type partCache[K comparable, V any] struct {
	mu         sync.Mutex
	limit      int
	young, old map[K]V
}

func newPartCache[K comparable, V any](limit int) *partCache[K, V] {
	return &partCache[K, V]{limit: limit, young: map[K]V{}}
}

// get returns what is known, or makes it. Two callers may make the same thing at once; both results are equal.
func (c *partCache[K, V]) get(key K, make func() (V, error)) (V, error) {
	if v, ok := c.lookup(key); ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		c.store(key, v)
	}
	return v, err
}

func (c *partCache[K, V]) lookup(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.young[key]
	if !ok {
		if v, ok = c.old[key]; ok {
			c.put(key, v)
		}
	}
	return v, ok
}

func (c *partCache[K, V]) store(key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, v)
}

func (c *partCache[K, V]) put(key K, v V) {
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, map[K]V{}
	}
	c.young[key] = v
}
