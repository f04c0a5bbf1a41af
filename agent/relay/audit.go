package relay

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Allowed says which files a bootstrap may name.
type Allowed struct {
	// Dirs are the work directories of the agent.
	Dirs []string
	// Files are single files besides, such as the system's authorities; empty ones count for nothing.
	Files []string
}

// What the control planes of Kuma and ours put into a bootstrap (contract agent.md §2.8), without the prefix of types.
var (
	knownSections = []string{
		"admin", "defaultregexengine", "dynamicresources", "hdsconfig", "layeredruntime", "node", "overloadmanager", "staticresources", "statsconfig",
	}
	knownTypes = []string{
		"envoy.extensions.access_loggers.file.v3.FileAccessLog",
		"envoy.extensions.regex_engines.v3.GoogleRE2",
		"envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
		"envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
	}
)

// programTypes are parts of the names of types that run a program, or write a profile of Envoy.
var programTypes = []string{".wasm.", ".golang.", ".dynamic_modules.", ".lua.", ".profile_action."}

// devices are no files: to write to them harms nobody.
var devices = []string{"/dev/null", "/dev/stdout", "/dev/stderr"}

// pathFields hold a path, which may be a relative one. All other text counts as a path when it begins with a slash.
var pathFields = []string{"path", "filename", "profilepath", "flagspath", "symlinkroot", "eventlogpath", "perftracingfilepath", "librarypath"}

// Audit finds what a bootstrap has no business to hold (demands.md §3.3, assertion 20). No control plane sends what is
// refused: programs, files outside of the work directory, variables of the environment, listeners (by which the admin
// interface could be had at another address). What is flagged may be wanted: an access log of the admin interface in a
// file, which is a setting of the control plane, and what is not known here. Each text is one line that names the place.
// What arrives later, by ADS, is not looked at: a policy may ask for Lua.
func (b *Bootstrap) Audit(allowed Allowed) (refused, flagged []string) {
	a := &audit{allowed: allowed}
	for _, key := range slices.Sorted(maps.Keys(b.root)) {
		switch plain := plainField(key); {
		case plain == "node" || plain == "statsconfig":
			continue // names and expressions, by which Envoy touches nothing
		case !slices.Contains(knownSections, plain):
			a.flag("%.100q is a section that no control plane of Kuma sends", key)
		}
		a.walk(key, key, b.root[key])
	}
	return a.refused, a.flagged
}

type audit struct {
	allowed          Allowed
	refused, flagged []string
}

func (a *audit) refuse(format string, args ...any) {
	a.refused = append(a.refused, fmt.Sprintf(format, args...))
}

func (a *audit) flag(format string, args ...any) {
	a.flagged = append(a.flagged, fmt.Sprintf(format, args...))
}

// plainField makes one spelling of the two that Envoy reads, camelCase and snake_case.
func plainField(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// walk looks at the value of a field; at is its place.
func (a *audit) walk(at, field string, v any) {
	switch v := v.(type) {
	case string:
		a.text(at, field, v)
	case []any:
		if plainField(field) == "listeners" && len(v) > 0 {
			a.refuse("%s opens %d listeners, which only ADS may", at, len(v))
		}
		for i, item := range v {
			a.walk(at+"["+strconv.Itoa(i)+"]", field, item)
		}
	default:
		o := asObject(v)
		for _, key := range slices.Sorted(maps.Keys(o)) {
			a.walk(fmt.Sprintf("%s.%.100s", at, strings.ToValidUTF8(key, "?")), key, o[key])
		}
	}
}

func (a *audit) text(at, field, value string) {
	plain := plainField(field)
	switch {
	case field == "@type":
		a.typed(at, value)
	case plain == "environmentvariable":
		a.refuse("%s reads the variable %.100q of the environment", at, value)
	case strings.HasPrefix(value, "/") || slices.Contains(pathFields, plain) && value != "":
		a.file(at, value)
	}
}

func (a *audit) typed(at, url string) {
	_, name, _ := strings.Cut(url, "/")
	switch {
	case slices.Contains(knownTypes, name):
	case slices.ContainsFunc(programTypes, func(part string) bool { return strings.Contains(name, part) }):
		a.refuse("%s is %.200q, which runs a program", at, url)
	default:
		a.flag("%s is %.200q, which no control plane of Kuma sends", at, url)
	}
}

func (a *audit) file(at, path string) {
	within := func(dir string) bool { // both may be relative; a socket whose name begins with @ is in no directory
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel) && !strings.HasPrefix(path, "@")
	}
	switch {
	case slices.Contains(devices, path), slices.Contains(a.allowed.Files, path), slices.ContainsFunc(a.allowed.Dirs, within):
	case strings.HasPrefix(at, "admin.accessLog"):
		a.flag("%s writes to %.200q, outside of the work directory", at, path)
	default:
		a.refuse("%s names %.200q, outside of the work directory", at, path)
	}
}
