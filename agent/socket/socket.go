// Package socket makes the agent's local unix sockets: owner-only, never in place of somebody else's file.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxPath is what sun_path holds on Linux, without its final zero.
const maxPath = 107

// Listen binds a unix stream socket with mode 0600 at path and removes it when the listener is closed. A socket that a
// crashed run of the same user left behind is replaced; anything else at path (a symbolic link, a file, a live socket,
// another user's socket) is refused and left alone (demands.md §3.3, assertions 5, 7 and 8).
func Listen(path string) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("listen on %s: path has %d bytes, unix sockets allow %d: choose a shorter work directory", path, len(path), maxPath)
	}
	if err := Clear(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict %s to its owner: %w", path, err), l.Close())
	}
	return l, nil
}

// ListenShared is Listen for a socket that every user may connect to, mode 0666. Nobody else may be able to put something in
// its place: a folder that others can write to is refused.
func ListenShared(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("refuse %s: its folder belongs to user %d, who could replace the socket: choose a folder of this user or of root", path, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("refuse %s: others can write to its folder (mode %s) and replace the socket: choose one that only its owner can write to", path, info.Mode().Perm())
	}
	l, err := Listen(path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // who connects is checked
		return nil, errors.Join(fmt.Errorf("open %s to other users: %w", path, err), l.Close())
	}
	return l, nil
}

// Clear removes a socket or FIFO that a crashed run of this user left at path. It is an error, and nothing is removed,
// when something else is there or a process still answers.
func Clear(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if info.Mode()&(fs.ModeSocket|fs.ModeNamedPipe) == 0 {
		return fmt.Errorf("refuse %s: a %s is in the way of a socket: remove it or choose another work directory", path, kindOf(info.Mode()))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("refuse %s: it belongs to user %d: remove it or choose another work directory", path, st.Uid)
	}
	if info.Mode()&fs.ModeSocket != 0 {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return errors.Join(fmt.Errorf("refuse %s: another process listens on it: give each agent its own work directory", path), c.Close())
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale %s: %w", path, err)
	}
	return nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	}
	return "special file"
}
