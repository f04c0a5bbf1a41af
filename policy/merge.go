package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// merge folds confs of ascending precedence into one (contract policies.md §4.4): objects deeply, scalars and lists
// replace, an absent field keeps the older value, lists named append* are joined. The result has one element, except for
// confs that name hostnames: these are merged per hostname. A single conf may come back as it is: confs are immutable.
func merge(kind Kind, confs []any) ([]any, error) {
	if !isRoute(confs[0]) {
		if len(confs) == 1 {
			return confs, nil
		}
		if merged, ok := mergeStructs(kind, confs); ok {
			return []any{merged}, nil
		}
	}
	return mergeJSON(kind, confs)
}

// mergeJSON is merge for confs of every type.
func mergeJSON(kind Kind, confs []any) ([]any, error) {
	objects := make([]object, len(confs))
	for i, c := range confs {
		o, err := toObject(c)
		if err != nil {
			return nil, fmt.Errorf("merge confs of %s: %w", kind.Descriptor.Kind, err)
		}
		objects[i] = o
	}
	var out []any
	for _, group := range byHostname(objects) {
		merged := mergeObjects(group)
		raw, err := json.Marshal(merged)
		if err != nil {
			return nil, fmt.Errorf("merge confs of %s: %w", kind.Descriptor.Kind, err)
		}
		conf := kind.NewConf()
		if err := json.Unmarshal(raw, conf); err != nil {
			return nil, fmt.Errorf("merge confs of %s: %w", kind.Descriptor.Kind, err)
		}
		out = append(out, conf)
	}
	return out, nil
}

// mergeOne is merge for confs without hostnames.
func mergeOne(kind Kind, confs []any) (any, error) {
	merged, err := merge(kind, confs)
	if err != nil {
		return nil, err
	}
	return merged[0], nil
}

type object = map[string]any

func toObject(conf any) (object, error) {
	raw, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	// Numbers keep their digits.
	dec.UseNumber()
	var o object
	return o, dec.Decode(&o)
}

// routes remembers isRoute by type.
var routes sync.Map // reflect.Type → bool

// isRoute tells whether a conf needs the treatment of routes even when it is alone.
func isRoute(conf any) bool {
	t := reflect.TypeOf(conf)
	known, ok := routes.Load(t)
	if !ok {
		known, _ = routes.LoadOrStore(t, isRouteType(t))
	}
	return known.(bool)
}

func isRouteType(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return true
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == rulesField || name == hostnamesField {
			return true
		}
	}
	return false
}

// Fields of routes.
const (
	rulesField     = "rules"
	matchesField   = "matches"
	hostnamesField = "hostnames"
	appendPrefix   = "append"
)

// byHostname splits confs into one group for every hostname, in the order of first appearance; a conf without hostnames
// belongs to the hostname "".
func byHostname(confs []object) [][]object {
	var names []string
	groups := map[string][]object{}
	for _, conf := range confs {
		hostnames, _ := conf[hostnamesField].([]any)
		if len(hostnames) == 0 {
			hostnames = []any{""}
		}
		for _, h := range hostnames {
			name, _ := h.(string)
			if groups[name] == nil {
				names = append(names, name)
			}
			own := make(object, len(conf))
			for k, v := range conf {
				own[k] = v
			}
			delete(own, hostnamesField)
			if name != "" {
				own[hostnamesField] = []any{name}
			}
			groups[name] = append(groups[name], own)
		}
	}
	out := make([][]object, len(names))
	for i, name := range names {
		out[i] = groups[name]
	}
	return out
}

func mergeObjects(confs []object) object {
	out := object{}
	var rules []any
	for _, conf := range confs {
		own, ok := conf[rulesField].([]any)
		if !ok {
			patch(out, conf)
			continue
		}
		rest := make(object, len(conf))
		for k, v := range conf {
			if k != rulesField {
				rest[k] = v
			}
		}
		patch(out, rest)
		reversed := slices.Clone(own)
		slices.Reverse(reversed)
		rules = append(rules, reversed...)
	}
	if rules != nil {
		out[rulesField] = mergeRules(rules)
	}
	return out
}

// patch is a merge patch of RFC 7396 without nulls, and with append* lists joined. It does not change what src holds.
func patch(dst, src object) {
	for k, v := range src {
		switch v := v.(type) {
		case object:
			old, _ := dst[k].(object)
			own := object{}
			patch(own, old)
			patch(own, v)
			dst[k] = own
		case []any:
			if strings.HasPrefix(k, appendPrefix) {
				old, _ := dst[k].([]any)
				dst[k] = slices.Concat(old, v)
			} else {
				dst[k] = v
			}
		case nil:
		default:
			dst[k] = v
		}
	}
}

// mergeRules merges rules with equal matches, at the place of the one with the highest precedence, and turns the list
// around: the input has the lowest precedence first, the result the highest (contract policies.md §4.4 step 3).
func mergeRules(rules []any) []any {
	type entry struct {
		key  string
		rule object
	}
	var merged []entry
	for _, r := range rules {
		rule, ok := r.(object)
		if !ok {
			continue
		}
		// Keys of objects are sorted by encoding, so equal matches have equal bytes; decoded JSON always encodes.
		raw, _ := json.Marshal(rule[matchesField])
		key := string(raw)
		i := slices.IndexFunc(merged, func(e entry) bool { return e.key == key })
		if i >= 0 {
			earlier := merged[i].rule
			merged = slices.Delete(merged, i, i+1)
			own := object{}
			patch(own, earlier)
			patch(own, rule)
			rule = own
		}
		merged = append(merged, entry{key, rule})
	}
	out := make([]any, len(merged))
	for i, e := range merged {
		out[len(merged)-1-i] = e.rule
	}
	return out
}
