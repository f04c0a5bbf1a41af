//go:build linux

package nftables

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

func newBackend(t testing.TB) *Backend {
	t.Helper()
	return New(Config{StateDir: t.TempDir() + "/state"})
}

func TestBackend(t *testing.T) {
	redirectlab.TestBackend(t, "tp-nft9", func(t testing.TB) redirectlab.Backend { return newBackend(t) })
}

// TestBackendWithoutInetNAT uses a family that has no NAT, as inet before Linux 5.2: the backend has to notice.
func TestBackendWithoutInetNAT(t *testing.T) {
	redirectlab.TestBackend(t, "tp-nft4", func(t testing.TB) redirectlab.Backend {
		b := newBackend(t)
		b.joint = unix.NFPROTO_BRIDGE
		return b
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
