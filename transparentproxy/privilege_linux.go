package transparentproxy

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are what changing redirection takes: netlink and iptables ask for the first, and iptables of the legacy
// flavour opens a raw socket.
var capabilities = []struct {
	name string
	bit  uint
}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_NET_RAW", unix.CAP_NET_RAW}}

// CheckPrivileges returns an error that says what the calling thread lacks to change redirection in its network namespace.
// It does not ask for root: a container with the two capabilities has enough.
func CheckPrivileges() error {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return fmt.Errorf("find out own capabilities: %w", err)
	}
	missing, err := missingCapabilities(string(status))
	if err != nil {
		return err
	}
	// Kuma's text (contract transparentproxy.md §1), and what it leaves out.
	const needed = "you need to have root privileges to run this command"
	if len(missing) > 0 {
		return fmt.Errorf("%s: this process lacks %s; run it as root, or give the container these capabilities", needed, strings.Join(missing, " and "))
	}
	if foreignNamespace() {
		return errors.New(needed + ": this network namespace belongs to another user namespace, in which this process lacks CAP_NET_ADMIN and CAP_NET_RAW; " +
			"run it as root of the host, or in a network namespace of its own")
	}
	return nil
}

// missingCapabilities reads the text of proc_pid_status(5).
func missingCapabilities(status string) ([]string, error) {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		has, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("find out own capabilities: %w", err)
		}
		var missing []string
		for _, c := range capabilities {
			if has&(1<<c.bit) == 0 {
				missing = append(missing, c.name)
			}
		}
		return missing, nil
	}
	return nil, errors.New("find out own capabilities: the status of this process does not tell them")
}

// foreignNamespace reports whether the network namespace is owned by a user namespace outside of ours, where our capabilities
// do not count. The kernel tells by refusing to show the owner.
func foreignNamespace() bool {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return false
	}
	defer f.Close()
	owner, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err == nil {
		_ = unix.Close(owner) // only asked whether it may be seen
	}
	return errors.Is(err, unix.EPERM)
}
