//go:build linux

package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock keeps other processes of ours from changing this namespace until unlock is called or the process ends. It waits
// until ctx ends; the error then names the holder. Keep it short: everybody else waits.
func Lock(ctx context.Context, dir string) (unlock func() error, err error) {
	name, _, err := identity()
	if err != nil {
		return nil, fmt.Errorf("identify network namespace: %w", err)
	}
	path := filepath.Join(dir, name+".lock")
	for {
		owner, err := prepare(dir)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", dir, err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, os.ErrNotExist) { // the directory went with its last file
			continue
		}
		if err == nil {
			err = owner.give(f)
		}
		if err == nil {
			err = flock(ctx, f)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), closeIf(f))
		}
		if same(f, path) {
			return func() error {
				// Unlinked while held: whoever waits for it sees that and takes the next one.
				err := os.Remove(path)
				return errors.Join(err, removeDir(dir), unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
			}, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

func closeIf(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// same reports whether the path still leads to the file.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	b, berr := os.Lstat(path)
	return err == nil && berr == nil && os.SameFile(a, b)
}

// The kernel tells that a file is closed just before it gives up the lock of a process that died, so that one look after
// the news could be too early.
var lookAgain = []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, time.Second}

// flock waits for the lock; the holder gives it up by closing the file.
func flock(ctx context.Context, f *os.File) error {
	try := func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return err == nil, err
	}
	if ok, err := try(); ok || err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	news := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = news.Close() }() // only read
	if _, err := unix.InotifyAddWatch(fd, f.Name(), unix.IN_CLOSE); errors.Is(err, unix.ENOENT) {
		return nil // unlinked: the caller opens the next one
	} else if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = news.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		for _, after := range lookAgain {
			select {
			case <-ctx.Done():
			case <-time.After(after):
			}
			if ok, err := try(); ok || err != nil {
				return err
			}
		}
		if ctx.Err() == nil {
			_, err = news.Read(buf)
		}
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%w: it is held by %s", cause, Holder(f.Name()))
		}
		if err != nil {
			return err
		}
	}
}

// Holder describes the process that has a lock on a file, for an error that somebody is to act upon.
func Holder(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "an unknown process"
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return "an unknown process"
	}
	defer func() { _ = f.Close() }() // only read
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF; an arrow after the number marks those that wait.
		w := strings.Fields(lines.Text())
		if len(w) < 6 || w[1] == "->" || w[5] != id {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		if err != nil || pid <= 0 {
			return "a process outside of this process namespace"
		}
		return Process(pid)
	}
	return "an unknown process"
}

// Process describes a process: its name, number and command.
func Process(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	comm, err := os.ReadFile(dir + "/comm")
	if err != nil {
		return "process " + strconv.Itoa(pid)
	}
	out := fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), pid)
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		out += ": " + strings.TrimSpace(strings.ReplaceAll(string(line[:min(len(line), 200)]), "\x00", " "))
	}
	return out
}
