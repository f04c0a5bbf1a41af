package settings

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// value is how the text of a setting is read, whatever source it comes from.
type value struct {
	// kind is what the help calls it.
	kind string
	set  func(*draft, string) error
	// reset empties a list, to which set then adds; nil for what is not a list.
	reset func(*draft)
	// pairs says that in files it is a mapping, of which set takes name:text.
	pairs bool
}

// apply sets the value of one source. Lists of other sources are replaced.
func (v value) apply(d *draft, texts ...string) error {
	if v.reset != nil {
		v.reset(d)
	}
	for _, t := range texts {
		if err := v.set(d, t); err != nil {
			return err
		}
	}
	return nil
}

func boolean(at func(*draft) *bool) value {
	return value{kind: "bool", set: func(d *draft, s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("value '%s' is neither true nor false", s)
		}
		*at(d) = b
		return nil
	}}
}

func text(at func(*draft) *string) value {
	return value{kind: "string", set: func(d *draft, s string) error { *at(d) = s; return nil }}
}

func port(at func(*draft) *uint16) value {
	return value{kind: "port", set: func(d *draft, s string) error {
		p, err := tp.ParsePorts(s)
		if err != nil {
			return err
		}
		if len(p) != 1 || p[0].First != p[0].Last {
			return fmt.Errorf("value '%s' is not one port", s)
		}
		*at(d) = p[0].First
		return nil
	}}
}

func list[T any](kind string, at func(*draft) *[]T, parse func(string) ([]T, error)) value {
	return value{
		kind: kind,
		set: func(d *draft, s string) error {
			v, err := parse(s)
			if err == nil {
				*at(d) = append(*at(d), v...)
			}
			return err
		},
		reset: func(d *draft) { *at(d) = nil },
	}
}

func ports(at func(*draft) *tp.Ports) value {
	return list("ports", func(d *draft) *[]tp.PortRange { return (*[]tp.PortRange)(at(d)) },
		func(s string) ([]tp.PortRange, error) { return tp.ParsePorts(s) })
}

// number reads digits up to a limit, which the value's type must hold.
func number(kind string, limit uint64, put func(*draft, uint64)) value {
	return value{kind: kind, set: func(d *draft, s string) error {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n > limit {
			return fmt.Errorf("value '%s' is not a number from 0 to %d", s, limit)
		}
		put(d, n)
		return nil
	}}
}

// maxCount is far above what anybody waits for, and keeps seconds within a time.Duration.
const maxCount = 1 << 30

func duration(unit time.Duration, at func(*draft) *time.Duration) value {
	return number("uint", maxCount, func(d *draft, n uint64) { *at(d) = time.Duration(n) * unit })
}

// parseDuration reads 500ms and, as Kuma's flag wants it, "500ms" in quotes or a number of nanoseconds.
func parseDuration(s string) (time.Duration, error) {
	plain := s
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		plain = s[1 : len(s)-1]
	}
	d, err := time.ParseDuration(plain)
	if n, nerr := strconv.ParseInt(s, 10, 64); nerr == nil {
		d, err = time.Duration(n), nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("value '%s' is not a duration: expected one as 500ms or 2s, or a number of nanoseconds", s)
	}
	return d, nil
}

func familyMode() value {
	return value{kind: "mode", set: func(d *draft, s string) (err error) {
		d.Config.IPFamilyMode, err = tp.ParseFamilyMode(s)
		return err
	}}
}

// user is who runs kuma-dp.
func user() value {
	return value{kind: "string", set: func(d *draft, s string) error {
		d.Config.User, d.Config.UIDOnly = s, false
		return nil
	}}
}

var executableNames = []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"}

// executables reads name:path pairs, separated by commas.
func executables() value {
	return value{
		kind: "name:path", pairs: true,
		set: func(d *draft, s string) error {
			for pair := range strings.SplitSeq(s, ",") {
				name, path, _ := strings.Cut(strings.TrimSpace(pair), ":")
				if !slices.Contains(executableNames, name) || !filepath.IsAbs(path) {
					return fmt.Errorf("value '%s' is not name:path, with an absolute path and a name of %s", pair, strings.Join(executableNames, ", "))
				}
				if d.executables == nil {
					d.executables = map[string]string{}
				}
				d.executables[name] = path
			}
			return nil
		},
		reset: func(d *draft) { d.executables = nil },
	}
}

// noInboundUIDs is in the schema of Kuma 2.9, where it makes a rule that switches inbound redirection off.
func noInboundUIDs() value {
	return value{kind: "uids", reset: func(*draft) {}, set: func(_ *draft, s string) error {
		if s == "" {
			return nil
		}
		return fmt.Errorf("value '%s' cannot be: connections from elsewhere have no user on this host; use redirect.outbound.excludePortsForUIDs", s)
	}}
}

// ebpf notes that something was asked of eBPF.
func ebpf(kind string) value {
	return value{kind: kind, set: func(d *draft, s string) error {
		on := s != ""
		if kind == "bool" {
			var err error
			if on, err = strconv.ParseBool(s); err != nil {
				return fmt.Errorf("value '%s' is neither true nor false", s)
			}
		}
		d.ebpf = d.ebpf || on
		return nil
	}}
}
