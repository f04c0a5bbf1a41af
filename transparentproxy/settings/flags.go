package settings

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Names of the flags that say where to read more.
const (
	flagConfig      = "config"
	flagConfigFile  = "config-file"
	flagAnnotations = "annotations-file"
)

// flagValue checks what a flag is given and keeps it until Load.
type flagValue struct {
	value
	def   string
	texts []string
}

func (f *flagValue) String() string {
	if len(f.texts) == 0 {
		return f.def
	}
	return strings.Join(f.texts, ",")
}

func (f *flagValue) Type() string { return f.kind }

func (f *flagValue) Set(s string) error {
	if err := f.set(newDraft(), s); err != nil {
		return err
	}
	if f.reset == nil {
		f.texts = nil
	}
	f.texts = append(f.texts, s)
	return nil
}

// anyText takes what Load will read.
func anyText(kind string, repeated bool) value {
	v := value{kind: kind, set: func(*draft, string) error { return nil }}
	if repeated {
		v.reset = func(*draft) {}
	}
	return v
}

// Bind adds all flags of installing.
func Bind(f *pflag.FlagSet) {
	bind(f, func(*setting) bool { return true })
	f.Var(&flagValue{value: anyText("files", true)}, flagConfig,
		"settings as files of YAML or JSON, separated by commas, - for the standard input, or as YAML or JSON itself; may be repeated, the later goes before the earlier")
	f.Var(&flagValue{value: anyText("file", false)}, flagConfigFile, "settings as a file of YAML or JSON, - for the standard input; --config is then ignored")
	f.Var(&flagValue{value: anyText("file", false)}, flagAnnotations,
		"annotations of the pod, as the downward API of Kubernetes writes them; they go before files and after variables")
	f.Var(&flagValue{value: user()}, "kuma-dp-uid", "name or UID of the user that runs kuma-dp")
	_ = f.MarkDeprecated("kuma-dp-uid", "use --kuma-dp-user") // the flag is there
}

// BindRemoval adds the flags of uninstalling.
func BindRemoval(f *pflag.FlagSet) { bind(f, func(s *setting) bool { return s.removal }) }

func bind(f *pflag.FlagSet, want func(*setting) bool) {
	for i := range table {
		s := &table[i]
		if s.flag == "" || !want(s) {
			continue
		}
		added := f.VarPF(&flagValue{value: s.value, def: s.def}, s.flag, "", s.meaning)
		if s.kind == "bool" {
			added.NoOptDefVal = "true"
		}
	}
}

// given returns what a flag of ours was given, nil when it was not.
func (l *loader) given(name string) []string {
	if l.Flags == nil {
		return nil
	}
	f := l.Flags.Lookup(name)
	if f == nil || !f.Changed {
		return nil
	}
	v, ok := f.Value.(*flagValue) // another command's flag may have the name
	if !ok {
		return nil
	}
	return v.texts
}

func (l *loader) readFlags() error {
	if l.given(flagDNS) != nil && l.given(flagAllDNS) != nil {
		return errors.New("only one of '--redirect-dns' or '--redirect-all-dns-traffic' should be specified")
	}
	if uid := l.given("kuma-dp-uid"); uid != nil {
		l.Config.User, l.Config.UIDOnly = uid[0], false
	}
	for i := range table {
		s := &table[i]
		if texts := l.given(s.flag); texts != nil {
			if err := s.apply(l.draft, texts...); err != nil {
				return err // Set has let it through: cannot be
			}
		}
	}
	return nil
}

func parseVNets(s string) ([]tp.VNet, error) {
	var out []tp.VNet
	for part := range strings.SplitSeq(s, ",") {
		v, err := tp.ParseVNet(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return slices.Clip(out), nil
}
