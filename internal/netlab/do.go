//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// waitDelay is how long after its death a command's output pipes may be held open by its children.
const waitDelay = 2 * time.Second

// Do runs f on a locked thread inside the host's network namespace and returns its error. Sockets opened by f stay in the
// namespace; goroutines started by f do not run in it. Files are those of the machine: only Command sees SetResolvConf.
func (h *Host) Do(f func() error) (err error) {
	runtime.LockOSThread()
	back, err := netns.GetFromPath(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open current namespace: %w", err)
	}
	defer func() { err = errors.Join(err, back.Close()) }()
	if err := netns.Set(h.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", h.Namespace, err)
	}
	defer func() {
		if e := netns.Set(back); e != nil {
			// The thread stays locked, so that Go never runs anything else in the wrong namespace.
			err = errors.Join(err, fmt.Errorf("leave namespace %s: %w", h.Namespace, e))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// DoAs is Do with sockets owned by uid, as firewalls match owners: sockets opened by f look like those of a process of
// that user. Only the file-system uid of the thread changes, which is what the kernel stores in a socket.
func (h *Host) DoAs(uid int, f func() error) error {
	return h.Do(func() error {
		before, err := unix.SetfsuidRetUid(uid)
		if err != nil {
			return fmt.Errorf("become uid %d: %w", uid, err)
		}
		defer func() { _, _ = unix.SetfsuidRetUid(before) }() // back to what the thread had cannot fail
		return f()
	})
}

// Listen is net.Listen in the host's namespace. address must be numeric.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// DialContext is net.Dialer.DialContext in the host's namespace; it fits http.Transport. address must be numeric: names
// would be resolved by goroutines outside the namespace.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, h.Do, network, address)
}

// DialAs is DialContext with a socket owned by uid.
func (h *Host) DialAs(ctx context.Context, uid int, network, address string) (net.Conn, error) {
	return h.dial(ctx, func(f func() error) error { return h.DoAs(uid, f) }, network, address)
}

func (h *Host) dial(ctx context.Context, do func(func() error) error, network, address string) (c net.Conn, err error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s from %s: the address must be numeric", address, h.Namespace)
	}
	err = do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Command is exec.CommandContext inside the host's namespace, through `ip netns exec`, so that the files of SetResolvConf
// and SetEtc are in place under /etc. With a uid other than 0 it runs as that user and a group of the same number, without
// other groups. The command has its own process group, which is killed when ctx ends, and dies with this process. Lab.Close
// kills what still runs; the caller has to Wait as for any command.
func (h *Host) Command(ctx context.Context, uid int, name string, args ...string) *exec.Cmd {
	argv := []string{"netns", "exec", h.Namespace}
	if uid != 0 {
		id := strconv.Itoa(uid)
		// The kernel forgets the parent-death signal when the uid changes, so it is asked for again.
		argv = append(argv, "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--pdeathsig", "KILL", "--")
	}
	argv = append(append(argv, name), args...)
	cmd := exec.CommandContext(ctx, "ip", argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = waitDelay
	return cmd
}

// SetResolvConf sets the /etc/resolv.conf that commands in the namespace see from their start on.
func (h *Host) SetResolvConf(text string) error { return h.SetEtc("resolv.conf", text) }

// etcName is a plain file name.
var etcName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// SetEtc sets the /etc/<name> that commands in the namespace see from their start on: hosts or passwd, for example. The
// machine must have a file of that name, since it is mounted over.
func (h *Host) SetEtc(name, text string) error {
	if !etcName.MatchString(name) {
		return fmt.Errorf("set /etc/%s of %s: not a plain file name", name, h.Namespace)
	}
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if h.lab.closed {
		return fmt.Errorf("set /etc/%s of %s: the lab is closed", name, h.Namespace)
	}
	if _, err := os.Stat(filepath.Join("/etc", name)); err != nil {
		return fmt.Errorf("set /etc/%s of %s: %w", name, h.Namespace, err)
	}
	dir := filepath.Join(etcRoot, h.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("set /etc/%s of %s: %w", name, h.Namespace, err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("set /etc/%s of %s: %w", name, h.Namespace, err)
	}
	return nil
}
