//go:build linux

// Package netlab makes network namespaces that behave like hosts on one segment, for tests and for the demo. It needs
// root. A lab leaves nothing behind: Close removes what it made, and Sweep what a killed run left.
//
// Namespaces are named <prefix>-<host> and found under /run/netns, so `ip netns exec <prefix>-<host> curl …` works for
// people too. All links live inside the lab's own namespaces; the machine's own network is never touched.
package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"sync"

	"github.com/vishvananda/netlink"
)

const (
	bridgeName = "br0"
	// bridgeHost is the host name kept for the namespace that holds the bridge and routes between subnets.
	bridgeHost = "bridge"
)

// validName keeps names usable as file names and, together with the prefix, as namespace names.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// ErrInUse is returned by New and Sweep when a lab with this prefix is alive in some process.
var ErrInUse = errors.New("a lab with this prefix is in use")

// Lab is a set of hosts on one bridge. Its methods may be called concurrently.
type Lab struct {
	prefix string
	state  *stateDir

	mu      sync.Mutex
	closed  bool
	bridge  *Host
	hosts   map[string]*Host
	subnets map[netip.Prefix]*subnet
}

// subnet is one address range on the bridge. Its first address belongs to the bridge, which routes between subnets.
type subnet struct {
	next  netip.Addr // next address to hand out
	with6 bool       // the bridge has the IPv6 address too
}

// RequireRoot fails the test when it does not run as root: a test of namespaces that skips itself proves nothing.
func RequireRoot(t interface {
	Helper()
	Fatal(args ...any)
},
) {
	t.Helper()
	if err := checkRoot(); err != nil {
		t.Fatal(err)
	}
}

func checkRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("make network namespaces: running as uid %d; run as root (for tests: sudo -E go test …)", uid)
	}
	return nil
}

// New makes an empty lab: a bridge in a namespace of its own, <prefix>-bridge. Leftovers of an earlier run with the same
// prefix are removed first. It fails with ErrInUse while another live lab has this prefix. prefix is lower-case letters,
// digits and dashes. The caller must Close the lab.
func New(prefix string) (*Lab, error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	if !validName.MatchString(prefix) {
		return nil, fmt.Errorf("make lab %q: the prefix must be lower-case letters, digits and dashes", prefix)
	}
	state, err := openState(prefix)
	if err != nil {
		return nil, fmt.Errorf("make lab %q: %w", prefix, err)
	}
	l := &Lab{prefix: prefix, state: state, hosts: map[string]*Host{}, subnets: map[netip.Prefix]*subnet{}}
	if err := state.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("remove leftovers of lab %q: %w", prefix, err), state.release())
	}
	if err := l.makeBridge(); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab %q: %w", prefix, err), l.Close())
	}
	return l, nil
}

// Sweep removes what a lab of this prefix left when its process was killed: processes, namespaces and files. It fails
// with ErrInUse when that lab is still alive, and does nothing when there is nothing.
func Sweep(prefix string) error {
	if err := checkRoot(); err != nil {
		return err
	}
	if !validName.MatchString(prefix) {
		return fmt.Errorf("sweep lab %q: the prefix must be lower-case letters, digits and dashes", prefix)
	}
	state, err := openState(prefix)
	if err != nil {
		return fmt.Errorf("sweep lab %q: %w", prefix, err)
	}
	if err := state.sweep(); err != nil {
		return errors.Join(fmt.Errorf("sweep lab %q: %w", prefix, err), state.release())
	}
	return state.release()
}

// Close kills the processes in the lab's namespaces and removes the namespaces and the files under /etc/netns. It may be
// called again.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, h.handle.Close())
	}
	if l.bridge != nil {
		errs = append(errs, l.bridge.handle.Close())
	}
	errs = append(errs, l.state.sweep(), l.state.release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close lab %q: %w", l.prefix, err)
	}
	return nil
}

func (l *Lab) makeBridge() error {
	h, err := l.newHost(bridgeHost)
	if err != nil {
		return err
	}
	l.bridge = h
	nl, err := netlink.NewHandleAt(h.handle)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", h.Namespace, err)
	}
	defer nl.Close()
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	br.Name = bridgeName
	if err := nl.LinkAdd(br); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	if err := nl.LinkSetUp(br); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	return h.Do(func() error {
		return errors.Join(
			writeSysctl("net/ipv4/ip_forward", "1"),
			writeSysctl("net/ipv6/conf/all/forwarding", "1"))
	})
}

// newHost makes the namespace alone, with loopback up.
func (l *Lab) newHost(name string) (*Host, error) {
	h := &Host{Name: name, Namespace: l.prefix + "-" + name, lab: l}
	if err := l.state.add(h.Namespace); err != nil {
		return nil, err
	}
	handle, err := createNamespace(h.Namespace)
	if err != nil {
		return nil, errors.Join(err, l.state.forget(h.Namespace))
	}
	h.handle = handle
	if err := h.prepare(); err != nil {
		return nil, errors.Join(err, handle.Close(), l.state.removeNamespace(h.Namespace))
	}
	return h, nil
}

// prepare sets what every host has before its first link: no duplicate address detection, which would hold an address
// back for a second, and loopback.
func (h *Host) prepare() error {
	if err := h.Do(func() error {
		return errors.Join(
			writeSysctl("net/ipv6/conf/all/accept_dad", "0"),
			writeSysctl("net/ipv6/conf/default/accept_dad", "0"))
	}); err != nil {
		return err
	}
	nl, err := netlink.NewHandleAt(h.handle)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", h.Namespace, err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback of %s: %w", h.Namespace, err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback of %s up: %w", h.Namespace, err)
	}
	return nil
}
