//go:build linux

package iptables

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

func TestBackend(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			redirectlab.TestBackend(t, "tp-"+string(flavour), func(t testing.TB) redirectlab.Backend { return newBackend(t, flavour) })
		})
	}
}
