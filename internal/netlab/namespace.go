//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// killRounds bounds how often the process table is read again for children that were forked meanwhile.
	killRounds = 20
	// exitWait is how long, in milliseconds, a killed process may take to go. Only a process stuck in the kernel needs long.
	exitWait = 5000
)

// threadNamespace is the network namespace of the calling thread.
const threadNamespace = "/proc/thread-self/ns/net"

// createNamespace makes a named network namespace the way ip(8) does, so that ip(8) finds it.
func createNamespace(name string) (netns.NsHandle, error) {
	if err := shareNetnsRoot(); err != nil {
		return netns.None(), err
	}
	path := filepath.Join(netnsRoot, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return netns.None(), fmt.Errorf("make namespace %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return netns.None(), err
	}
	runtime.LockOSThread()
	back, err := netns.GetFromPath(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), errors.Join(fmt.Errorf("open current namespace: %w", err), os.Remove(path))
	}
	handle, err := netns.New()
	if err == nil {
		err = unix.Mount(threadNamespace, path, "none", unix.MS_BIND, "")
	}
	if restoreErr := netns.Set(back); restoreErr != nil {
		// The thread stays locked, so that Go never runs anything else in the wrong namespace.
		return netns.None(), errors.Join(err, fmt.Errorf("return to the first namespace: %w", restoreErr))
	}
	runtime.UnlockOSThread()
	err = errors.Join(err, back.Close())
	if err != nil {
		if handle.IsOpen() {
			err = errors.Join(err, handle.Close())
		}
		return netns.None(), errors.Join(fmt.Errorf("make namespace %s: %w", name, err), deleteNamespace(path))
	}
	return handle, nil
}

// shareNetnsRoot makes /run/netns a shared mount as ip(8) does: then removing a namespace here also removes it from the
// private mounts of processes that were started by `ip netns exec`, and ip(8) does not mount over our names later.
func shareNetnsRoot() (err error) {
	if err := os.MkdirAll(netnsRoot, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", netnsRoot, err)
	}
	lock, err := lockFile(filepath.Join(stateRoot, ".mount"), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	err = unix.Mount("", netnsRoot, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Not a mount point yet.
	if err := unix.Mount(netnsRoot, netnsRoot, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", netnsRoot, err)
	}
	if err := unix.Mount("", netnsRoot, "none", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share %s: %w", netnsRoot, err)
	}
	return nil
}

// deleteNamespace removes the name. The kernel frees the namespace with its links when the last user is gone.
func deleteNamespace(path string) error {
	for {
		// Once for every mount on the name: a crash may have left more than one.
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount namespace %s: %w", path, err)
		}
	}
	return ignoreMissing(os.Remove(path))
}

// killProcesses kills every process but this one whose first thread is in the namespace, and waits until they are gone.
// Processes are found by the namespace, not by who started them, so children of children and those of a crashed run are
// found too.
func killProcesses(path string) error {
	var ns unix.Stat_t
	if err := unix.Stat(path, &ns); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("read namespace %s: %w", path, err)
	}
	for range killRounds {
		pids, err := processesIn(ns)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, fd := range pids {
			err = errors.Join(err, killAndWait(fd))
		}
		if err != nil {
			return fmt.Errorf("kill processes in %s: %w", path, err)
		}
	}
	return fmt.Errorf("kill processes in %s: new ones kept appearing", path)
}

// processesIn returns a descriptor of each live process in the namespace. A descriptor, not a pid: the pid may be another
// process by the time it is killed.
func processesIn(ns unix.Stat_t) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("read process table: %w", err)
	}
	var fds []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone meanwhile
		}
		var st unix.Stat_t
		err = unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &st)
		if err == nil && st.Dev == ns.Dev && st.Ino == ns.Ino {
			fds = append(fds, fd)
			continue
		}
		if err := unix.Close(fd); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

func killAndWait(fd int) error {
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, exitWait)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("a killed process did not end within %d ms", exitWait)
		default:
			return nil
		}
	}
}

func writeSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	return err
}
