//go:build linux

package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsswitch tells the C library whom to ask for users. xt_owner's iptables part asks even for numbers, over the network if the
// host's users are there, from a pod whose network is not up (kuma #11038).
const nsswitch = "/etc/nsswitch.conf"

// inSandbox runs f, which starts a program, in the sandbox if the configuration wants it.
func (c *Config) inSandbox(f func() error) error {
	if !c.Sandbox {
		return f()
	}
	started, err := sandboxed(f)
	if started {
		return err
	}
	c.Log.Warn("iptables runs without a sandbox", "error", err)
	return f()
}

// sandboxed runs f on a thread of its own, in the network namespace of the caller and in a mount namespace where
// /etc/nsswitch.conf is empty and the lock of iptables is that of the network namespace, also for versions that do not know
// XTABLES_LOCKFILE. started is false when there is no such place, and f has not run.
func sandboxed(f func() error) (started bool, err error) {
	net, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return false, fmt.Errorf("make a sandbox: %w", err)
	}
	defer net.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and nothing else ever runs on it
		if err = enterSandbox(int(net.Fd())); err != nil {
			err = fmt.Errorf("make a sandbox: %w", err)
			return
		}
		started = true
		err = f()
	}()
	<-done
	return started, err
}

func enterSandbox(net int) error {
	if err := unix.Setns(net, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	for _, m := range []struct{ from, to string }{{"/dev/null", nsswitch}, {"/proc/thread-self/ns/net", defaultLock}} {
		if _, err := os.Stat(m.to); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := unix.Mount(m.from, m.to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s over %s: %w", m.from, m.to, err)
		}
	}
	return nil
}
