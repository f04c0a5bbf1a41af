package inspect

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/kuma-dp/kuma-dp/policy"
)

// write answers with the rules as api.WriteJSON would, byte for byte. It spares the time of finding out the types of
// thousands of equal parts and of looking at each byte again to indent it.
func (r *rulesBody) write(w http.ResponseWriter) error { return answerWith(w, r.indented) }

// write answers with a configuration. Its resources have been indented.
func (c *configBody) write(w http.ResponseWriter) error { return answerWith(w, c.indented) }

func answerWith(w http.ResponseWriter, indented func(to []byte) ([]byte, error)) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b, err := indented((*buffer)[:0])
	*buffer = b
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(b)
	return err
}

// indented appends json.MarshalIndent(r, "", " ").
func (r *rulesBody) indented(to []byte) ([]byte, error) {
	a := &rulesWriter{out: to, confs: map[confAt][]byte{}}
	a.object(func() {
		list(a, "httpMatches", r.HTTPMatches, func(m *httpMatch) {
			a.object(func() {
				a.string("hash", m.Hash)
				a.conf("match", m.Match)
			})
		})
		a.meta("resource", &r.Resource)
		list(a, "rules", r.Rules, a.kindRules)
	})
	return a.out, a.err
}

func (c *configBody) indented(to []byte) ([]byte, error) {
	size := 0 // about: a text that grows is copied and copied again
	for _, resources := range c.XDS {
		for name, text := range resources {
			size += len(name) + len(text) + len("   \"\": ,\n")
		}
	}
	a := &rulesWriter{out: slices.Grow(to, size)}
	a.object(func() {
		a.key("xds")
		a.object(func() {
			for _, typeURL := range slices.Sorted(maps.Keys(c.XDS)) {
				a.member(typeURL)
				a.object(func() {
					for _, name := range slices.Sorted(maps.Keys(c.XDS[typeURL])) {
						a.member(name)
						a.out = append(a.out, c.XDS[typeURL][name]...)
					}
				})
			}
		})
		if c.Diff != nil {
			a.key("diff")
			a.marshal(c.Diff)
		}
	})
	return a.out, a.err
}

// rulesWriter writes JSON with an indentation of one space.
type rulesWriter struct {
	out   []byte
	depth int
	// empty tells that the object or list that is being written has no element yet.
	empty bool
	// confs remembers what confs look like: many rules share one.
	confs map[confAt][]byte
	// keys is scratch space of tags.
	keys []string
	err  error
}

// buffers are those of earlier answers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

type confAt struct {
	conf  any
	depth int
}

const spaces = "                                "

func (a *rulesWriter) line() {
	a.out = append(append(a.out, '\n'), spaces[:a.depth]...)
}

// within writes what is between a pair of brackets.
func (a *rulesWriter) within(brackets string, write func()) {
	a.out = append(a.out, brackets[0])
	a.depth++
	a.empty = true
	write()
	a.depth--
	if !a.empty {
		a.line()
	}
	a.empty = false
	a.out = append(a.out, brackets[1])
}

func (a *rulesWriter) object(write func()) { a.within("{}", write) }

// element begins the next element of a list.
func (a *rulesWriter) element() {
	if !a.empty {
		a.out = append(a.out, ',')
	}
	a.empty = false
	a.line()
}

// key begins the next field of an object, whose name needs no escapes.
func (a *rulesWriter) key(name string) {
	a.element()
	a.out = append(append(append(a.out, '"'), name...), `": `...)
}

// member begins the next field of an object, whatever its name.
func (a *rulesWriter) member(name string) {
	a.element()
	a.text(name)
	a.out = append(a.out, ": "...)
}

func list[E any](a *rulesWriter, name string, elements []E, write func(*E)) {
	a.key(name)
	if elements == nil {
		a.out = append(a.out, "null"...)
		return
	}
	a.within("[]", func() {
		for i := range elements {
			a.element()
			write(&elements[i])
		}
	})
}

// plainByte are the bytes that encoding/json writes as they are.
var plainByte = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf-1; c++ {
		plain[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return plain
}()

func (a *rulesWriter) text(s string) {
	for i := range len(s) {
		if !plainByte[s[i]] {
			a.marshal(s)
			return
		}
	}
	a.out = append(append(append(a.out, '"'), s...), '"')
}

func (a *rulesWriter) marshal(v any) {
	b, err := json.MarshalIndent(v, spaces[:a.depth], " ")
	if err != nil && a.err == nil {
		a.err = err
	}
	a.out = append(a.out, b...)
}

func (a *rulesWriter) string(name, value string) {
	a.key(name)
	a.text(value)
}

// conf writes what the kind of policy defines.
func (a *rulesWriter) conf(name string, conf any) {
	a.key(name)
	a.value(conf)
}

func (a *rulesWriter) value(conf any) {
	if conf == nil || reflect.TypeOf(conf).Kind() != reflect.Pointer {
		a.marshal(conf)
		return
	}
	at := confAt{conf, a.depth}
	known, ok := a.confs[at]
	if !ok {
		start := len(a.out)
		a.marshal(conf)
		known = a.out[start:]
		a.confs[at] = known
		return
	}
	a.out = append(a.out, known...)
}

func (a *rulesWriter) tags(name string, tags map[string]string) {
	a.key(name)
	if tags == nil {
		a.out = append(a.out, "null"...)
		return
	}
	a.keys = slices.AppendSeq(a.keys[:0], maps.Keys(tags))
	slices.Sort(a.keys)
	a.object(func() {
		for _, k := range a.keys {
			a.member(k)
			a.text(tags[k])
		}
	})
}

func (a *rulesWriter) meta(name string, m *meta) {
	a.key(name)
	a.metaValue(m)
}

func (a *rulesWriter) metaValue(m *meta) {
	a.object(func() {
		a.tags("labels", m.Labels)
		a.string("mesh", m.Mesh)
		a.string("name", m.Name)
		a.string("type", string(m.Type))
	})
}

func (a *rulesWriter) kindRules(r *kindRules) {
	a.object(func() {
		list(a, "fromRules", r.FromRules, func(f *fromRule) {
			a.object(func() {
				a.key("inbound")
				a.object(func() {
					a.key("port")
					a.out = strconv.AppendUint(a.out, uint64(f.Inbound.Port), 10)
					a.tags("tags", f.Inbound.Tags)
				})
				list(a, "rules", f.Rules, a.subsetRule)
			})
		})
		if p := r.ProxyRule; p != nil {
			a.key("proxyRule")
			a.object(func() {
				a.conf("conf", p.Conf)
				list(a, "origin", p.Origin, a.metaValue)
			})
		}
		list(a, "toResourceRules", r.ToResourceRules, a.resourceRule)
		list(a, "toRules", r.ToRules, a.subsetRule)
		a.string("type", string(r.Type))
		list(a, "warnings", r.Warnings, func(s *string) { a.text(*s) })
	})
}

func (a *rulesWriter) subsetRule(r *subsetRule) {
	a.object(func() {
		a.conf("conf", r.Conf)
		list(a, "matchers", r.Matchers, func(m *policy.Matcher) {
			a.object(func() {
				a.string("key", m.Key)
				a.string("value", m.Value)
				a.key("not")
				a.out = strconv.AppendBool(a.out, m.Not)
			})
		})
		list(a, "origin", r.Origin, a.metaValue)
	})
}

func (a *rulesWriter) resourceRule(r *resourceRule) {
	a.object(func() {
		list(a, "conf", r.Conf, func(c *any) { a.value(*c) })
		list(a, "origin", r.Origin, func(o *origin) {
			a.object(func() {
				a.meta("resourceMeta", &o.Meta)
				a.key("ruleIndex")
				a.out = strconv.AppendInt(a.out, int64(o.Index), 10)
			})
		})
		a.meta("resourceMeta", &r.Meta)
		a.string("resourceSectionName", r.Section)
	})
}
