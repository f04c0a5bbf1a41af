// Package redirection has the commands that install and uninstall redirection, for every program that offers them.
package redirection

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/internal/command"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// name is the command's in all programs, as in Kuma.
const name = "transparent-proxy"

// Process is the program that a command runs in. Rules and results go to its output, warnings to its errors.
type Process struct {
	command.Streams
	// LookupEnv is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Confirm installs for a time, after which the installation is taken back unless it is confirmed. Without it there is no
	// flag for that.
	Confirm func(ctx context.Context, m *redirect.Manager, cfg tp.Config, timeout time.Duration) (*redirect.Planned, error)
}

// Settings reads what the flags of the command, which settings.Bind has added, the environment and the files say, and logs
// its warnings.
func (p Process) Settings(cmd *cobra.Command) (settings.Settings, error) {
	return p.warned(settings.Load(p.sources(cmd)))
}

func (p Process) sources(cmd *cobra.Command) settings.Sources {
	return settings.Sources{Flags: cmd.Flags(), LookupEnv: p.LookupEnv, ReadFile: os.ReadFile, Stdin: p.In}
}

func (p Process) warned(s settings.Settings, err error) (settings.Settings, error) {
	for _, w := range s.Warnings {
		p.log().Warn("not everything that was asked for has an effect", "reason", w)
	}
	return s, err
}

func (p Process) log() *slog.Logger { return slog.New(slog.NewTextHandler(p.Err, nil)) }

// Manager has all backends of this host; backend is one of candidates.Names, or empty.
func (p Process) Manager(ctx context.Context, o settings.Options, backend string) (*redirect.Manager, error) {
	path, _ := p.LookupEnv("PATH") // none is as good as empty
	return candidates.NewManager(ctx, o, redirect.Config{Backend: backend, Log: p.log()}, path)
}

// BindHost adds the flags that say how redirection gets into the kernel, as opposed to what is redirected.
func BindHost(f *pflag.FlagSet, backend *string, keepSSH *bool) {
	f.StringVar(backend, "backend", redirect.Auto, "how rules get into the kernel, one of "+strings.Join(candidates.Names, "|")+
		"; auto keeps the one in use, or else takes the first that works, nftables before iptables")
	f.BoolVar(keepSSH, "keep-ssh", true, "do not redirect the port of the SSH session in which this runs")
}

// KeepSSH leaves the session of whoever runs this out of redirection.
func (p Process) KeepSSH(cfg *tp.Config) {
	added, redirected := redirect.ExcludeInbound(cfg, redirect.SSHPorts(p.LookupEnv))
	for _, port := range added {
		p.log().Info("this SSH session stays out of redirection; --keep-ssh=false redirects it too", "port", port)
	}
	for _, port := range redirected {
		p.log().Warn("the port of this SSH session is redirected because it is among the only ones to redirect", "port", port)
	}
}
