// Package settings reads what people ask of redirection: from flags, the environment, files and the annotations of a pod
// (contract transparentproxy.md §1), in the forms of Kuma 2.9 and of its successor. It reads nothing of the process by itself.
package settings

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Settings is what was asked for.
type Settings struct {
	Config  tp.Config
	Options Options
	// Warnings say, one sentence each, what was asked for and has no effect.
	Warnings []string
}

// Options say how to go about it.
type Options struct {
	// DryRun prints and changes nothing.
	DryRun bool
	// Verbose prints rules with long option names and headings.
	Verbose bool
	// NoComments leaves comments out of rules.
	NoComments bool
	// Wait is how long iptables waits for its lock, WaitInterval how often it tries; both are of the legacy flavour.
	Wait, WaitInterval time.Duration
	// MaxRetries is how often a failed iptables-restore is tried again, RetryDelay how long after.
	MaxRetries int
	RetryDelay time.Duration
	// Executables are the iptables to use instead of those found, by family.
	Executables map[tp.Family]Executables
	// Sandbox runs iptables where it finds neither the user database nor the lock of the host, as CNI plugins do.
	Sandbox bool
}

// Executables are the paths of one family's binaries.
type Executables struct{ IPTables, Save, Restore string }

const (
	// leastTime is what a change may take without waiting for anybody.
	leastTime = 30 * time.Second
	// mostTime bounds it whatever was asked for, so that a boot never hangs; Kuma's successor takes the same.
	mostTime = 5 * time.Minute
)

// Deadline is how long a change may take as a whole.
func (o Options) Deadline() time.Duration {
	tries := time.Duration(min(o.MaxRetries, int(mostTime/time.Second))) // more would not fit, and might not count
	//nolint:durationcheck // tries is a number
	return min(leastTime+(tries+1)*min(o.Wait, mostTime)+tries*min(o.RetryDelay, mostTime), mostTime)
}

// Sources is where to read. A flag goes before the environment, that before annotations, those before files, and these
// before defaults. The zero value gives the defaults.
type Sources struct {
	// Flags has been through Bind or BindRemoval, and has been parsed.
	Flags *pflag.FlagSet
	// LookupEnv is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Annotations are those of the pod.
	Annotations map[string]string
	// Files are further values of --config, read before those of the flag.
	Files []string
	// ReadFile is os.ReadFile, Stdin what the path - means.
	ReadFile func(path string) ([]byte, error)
	Stdin    io.Reader
}

// draft is settings in the making.
type draft struct {
	Settings
	executables     map[string]string
	ebpf, firewalld bool
	files           int // how many documents have been read
}

func newDraft() *draft {
	return &draft{Settings: Settings{
		Config:  tp.DefaultConfig(),
		Options: Options{Wait: 5 * time.Second, MaxRetries: 4, RetryDelay: 2 * time.Second},
	}}
}

func (d *draft) warn(format string, a ...any) {
	d.Warnings = append(d.Warnings, fmt.Sprintf(format, a...))
}

// Load reads all sources. Nothing is used of sources that are wrong in any place: the error names it.
func Load(src Sources) (Settings, error) {
	l := loader{Sources: src, draft: newDraft()}
	return l.load(l.readFiles, l.readAnnotations, l.readEnvironment, l.readFlags)
}

// LoadRemoval reads what uninstalling needs, from flags and the environment; whatever else is wrong there must not keep
// redirection on a host.
func LoadRemoval(src Sources) (Settings, error) {
	l := loader{Sources: src, draft: newDraft(), removal: true}
	return l.load(l.readEnvironment, l.readFlags)
}

type loader struct {
	Sources
	*draft
	removal   bool // only settings of uninstalling
	stdinRead bool
}

func (l *loader) load(steps ...func() error) (Settings, error) {
	for _, step := range append(steps, l.finish) {
		if err := step(); err != nil {
			return Settings{}, err
		}
	}
	return l.Settings, nil
}

func (l *loader) readEnvironment() error {
	if l.LookupEnv == nil {
		return nil
	}
	for i := range table {
		s := &table[i]
		text, ok := l.LookupEnv(envPrefix + s.env)
		if !ok || text == "" || l.removal && !s.removal {
			continue
		}
		if err := s.apply(l.draft, text); err != nil {
			return fmt.Errorf("variable %s: %w", envPrefix+s.env, err)
		}
	}
	return nil
}

// finish settles what needs more than one setting.
func (l *loader) finish() error {
	if l.firewalld {
		return errors.New("storeFirewalld (--store-firewalld) is not supported, for what Kuma stores brings no rules back: leave it out, " +
			"and run the installation again after each reload of firewalld, from a systemd unit with PartOf=firewalld.service and After=firewalld.service")
	}
	if l.ebpf {
		l.warn("eBPF is not used, as it is not in Kuma 2.9: netfilter redirects traffic, and options of eBPF have no effect; leave them out")
	}
	o := &l.Options
	for _, f := range []struct {
		family tp.Family
		name   string
	}{{tp.IPv4, "iptables"}, {tp.IPv6, "ip6tables"}} {
		e := Executables{l.executables[f.name], l.executables[f.name+"-save"], l.executables[f.name+"-restore"]}
		switch all := []string{e.IPTables, e.Save, e.Restore}; {
		case e == Executables{}:
		case slices.Contains(all, ""):
			l.warn("iptablesExecutables names some of %[1]s, %[1]s-save and %[1]s-restore, and not all: those of this host are used; name all three", f.name)
		default:
			if o.Executables == nil {
				o.Executables = map[tp.Family]Executables{}
			}
			o.Executables[f.family] = e
		}
	}
	l.Config.UIDOnly = l.Config.UIDOnly || o.Sandbox
	if err := l.Config.Validate(); err != nil {
		return fmt.Errorf("check settings: %w", err)
	}
	return nil
}

// isInline tells settings written where a path is wanted from a path: they are an object, have lines, or a key.
func isInline(s string) bool {
	s = strings.TrimSpace(s)
	return strings.HasPrefix(s, "{") || strings.ContainsAny(s, "\r\n") || strings.Contains(s, ": ") || strings.HasSuffix(s, ":")
}
