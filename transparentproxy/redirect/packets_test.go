//go:build linux

package redirect_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// TestPackets tries the table of contract transparentproxy.md §3 with what each backend makes of each configuration.
func TestPackets(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := &lab{dir: filepath.Join(t.TempDir(), "state")}
			l.m = l.manager(t, backend, nil)
			servers := resolvConf(t, "10.255.0.53", "127.0.0.11", "fd00:53::53")
			redirectlab.TestPackets(t, "rd-rows", func(t testing.TB, mesh *netlab.Host, c tp.Config) {
				l.Host = mesh
				c.User, c.UIDOnly, c.DNS.ResolvConfPath = strconv.Itoa(redirectlab.DPUID), true, servers
				if p := l.apply(t, l.m, c); p.Backend != backend {
					t.Errorf("applied by %s", p.Backend)
				}
				l.wants(t, redirect.InSync)
			}, func(t testing.TB, _ *netlab.Host) { l.remove(t, l.m) })
		})
	}
}
