package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockName marks a directory as an agent's; its lock is held for as long as the agent lives.
const lockName = "kuma-dp.lock"

const tempPattern = "kuma-dp-"

// workdir is where the bootstrap configuration and the sockets are.
type workdir struct {
	config, sockets string
	temp            string // to be removed; "" when both were given
	locks           []*os.File
}

// openWorkdir takes the configured directories, and a new temporary one in place of those that are not given. Temporary
// directories of agents that died are removed (contract agent.md §1.7, demands.md §3.3 assertions 5 to 8).
func openWorkdir(configDir, socketDir string, log *slog.Logger) (*workdir, error) {
	w := &workdir{config: configDir, sockets: socketDir}
	removeStale(log)
	if configDir == "" || socketDir == "" {
		dir, err := os.MkdirTemp("", tempPattern)
		if err != nil {
			return nil, fmt.Errorf("make work directory: %w: set TMPDIR or --work-dir to a directory that can be written", err)
		}
		w.temp = dir
		if w.config == "" {
			w.config = dir
		}
		if w.sockets == "" {
			w.sockets = dir
		}
	}
	dirs := []string{w.config}
	if w.sockets != w.config {
		dirs = append(dirs, w.sockets)
	}
	for _, dir := range dirs {
		if err := w.take(dir); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// bootstrap is where Envoy reads its configuration.
func (w *workdir) bootstrap() string { return filepath.Join(w.config, "bootstrap.yaml") }

// take checks that nobody else can plant files in dir, and locks it.
func (w *workdir) take(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make work directory %s: %w: choose one with --work-dir", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at work directory %s: %w", dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("refuse work directory %s: it must belong to this user and not be writable by others (chmod 700), or another user could read the proxy's secrets", dir)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write to work directory %s: %w: choose one with --work-dir", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("work directory %s is in use by another kuma-dp: give each its own --work-dir", dir), f.Close())
	}
	w.locks = append(w.locks, f)
	return nil
}

// close removes what the agent wrote, the directory too when it is a temporary one, and gives up the locks.
func (w *workdir) close() error {
	var errs []error
	if w.temp != "" {
		errs = append(errs, os.RemoveAll(w.temp))
	} else if len(w.locks) > 0 { // without a lock the files may be those of the agent that has it
		if err := os.Remove(w.bootstrap()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, f := range w.locks {
			errs = append(errs, os.Remove(f.Name()))
		}
	}
	for _, f := range w.locks {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// removeStale removes temporary directories of this user whose agent is dead: those with a lock that can be had.
func removeStale(log *slog.Logger) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPattern+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // not ours, or being made
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if err := os.RemoveAll(dir); err != nil {
				log.Warn("stale work directory stays", "dir", dir, "reason", err.Error())
			} else {
				log.Info("stale work directory removed", "dir", dir)
			}
		}
		_ = f.Close()
	}
}
