//go:build linux

package iptables

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// flavoured is a flavour for a sentence.
func flavoured(f Flavour) string {
	if f == "" {
		return ""
	}
	return "of flavour " + string(f) + " "
}

// lockHolder adds to an error about the lock who has it.
func (c *Config) lockHolder(err error) error {
	if err == nil || !strings.Contains(err.Error(), "xtables lock") {
		return err
	}
	path := cmp.Or(os.Getenv(lockVariable), defaultLock)
	if c.Sandbox || !lockable() {
		path = namespaceLock
	}
	return fmt.Errorf("%w: %s is held by %s; let it finish, or wait longer (--wait)", err, path, netns.Holder(path))
}
