//go:build linux

package candidates

import (
	"context"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// NewManager completes a configuration with all backends of this host, which find programs in path.
func NewManager(ctx context.Context, o settings.Options, c redirect.Config, path string) (*redirect.Manager, error) {
	cfg := Config{
		Log: c.Log, Path: path, StateDir: c.StateDir, Wait: o.Wait, WaitInterval: o.WaitInterval, MaxRetries: o.MaxRetries, RetryDelay: o.RetryDelay,
		NoComments: o.NoComments, Sandbox: o.Sandbox, Executables: map[tp.Family]iptables.Executables{},
	}
	for family, e := range o.Executables {
		cfg.Executables[family] = iptables.Executables(e)
	}
	if len(cfg.Executables) > 0 && (c.Backend == "" || c.Backend == redirect.Auto) {
		c.Backend = redirect.IPTables // which is what they are for
	}
	c.Candidates = All(ctx, cfg)
	return redirect.New(c)
}
