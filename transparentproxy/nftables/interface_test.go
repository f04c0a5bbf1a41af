//go:build linux

package nftables_test

import (
	"github.com/kuma-dp/kuma-dp/transparentproxy/nftables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

var _ redirect.Backend = (*nftables.Backend)(nil)
