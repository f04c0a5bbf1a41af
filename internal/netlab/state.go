//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	stateRoot = "/run/netlab"
	netnsRoot = "/run/netns"
	etcRoot   = "/etc/netns"
)

// stateDir records which namespaces belong to a prefix, so that a later run can remove exactly them. A name is recorded
// before the namespace is made. The lock is held while the lab lives; the kernel gives it back when the process dies.
//
//	/run/netlab/<prefix>.lock
//	/run/netlab/<prefix>/<namespace>
type stateDir struct {
	dir  string
	lock *os.File
}

func openState(prefix string) (*stateDir, error) {
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(stateRoot, prefix+".lock"), unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	s := &stateDir{dir: filepath.Join(stateRoot, prefix), lock: lock}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("make state directory: %w", err), s.release())
	}
	return s, nil
}

// lockFile opens and locks path. Because the holder removes the file before it lets go, a lock on a file that is no longer
// at path is worth nothing and is tried again.
func lockFile(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		if err := flock(f, how|unix.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// add claims a namespace name. A name that exists and is not ours is left alone.
func (s *stateDir) add(namespace string) error {
	for _, path := range []string{filepath.Join(netnsRoot, namespace), filepath.Join(etcRoot, namespace)} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("make namespace %s: %s exists and is not of this lab; remove it or choose another prefix", namespace, path)
		}
	}
	f, err := os.OpenFile(filepath.Join(s.dir, namespace), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("record namespace %s: %w", namespace, err)
	}
	return f.Close()
}

func (s *stateDir) forget(namespace string) error {
	return ignoreMissing(os.Remove(filepath.Join(s.dir, namespace)))
}

// removeNamespace kills the processes in one namespace and removes it, its files and its record. It is done when nothing
// of it exists.
func (s *stateDir) removeNamespace(namespace string) error {
	path := filepath.Join(netnsRoot, namespace)
	if err := killProcesses(path); err != nil {
		return err
	}
	if err := deleteNamespace(path); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(etcRoot, namespace)); err != nil {
		return fmt.Errorf("remove files of namespace %s: %w", namespace, err)
	}
	return s.forget(namespace)
}

// sweep removes every recorded namespace.
func (s *stateDir) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read state directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, s.removeNamespace(e.Name()))
	}
	// Only when nobody else has files there; the directory is a convention of ip(8), made on demand.
	if err := os.Remove(etcRoot); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// release gives the prefix back. The record stays when something could not be removed, for a later sweep.
func (s *stateDir) release() error {
	err := os.Remove(s.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, ignoreMissing(os.Remove(s.lock.Name())), s.lock.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
