// Package redirection has the commands that install and uninstall redirection, for every program that offers them.
package redirection

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// name is the command's in all programs, as in Kuma.
const name = "transparent-proxy"

// Process is the program that a command runs in. Rules and results go to its output, warnings to its errors.
type Process struct {
	command.Streams
	// LookupEnv is os.LookupEnv.
	LookupEnv func(string) (string, bool)
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

// backend finds iptables.
func (p Process) backend(ctx context.Context, o settings.Options) (*iptables.Backend, error) {
	path, _ := p.LookupEnv("PATH") // none is as good as empty
	cfg := iptables.Config{
		Log: p.log(), Path: path, Wait: o.Wait, WaitInterval: o.WaitInterval, MaxRetries: o.MaxRetries, RetryDelay: o.RetryDelay,
		NoComments: o.NoComments, Sandbox: o.Sandbox, Executables: map[tp.Family]iptables.Executables{},
	}
	for family, e := range o.Executables {
		cfg.Executables[family] = iptables.Executables(e)
	}
	return iptables.New(ctx, cfg)
}
