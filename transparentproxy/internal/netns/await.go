//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// AwaitGone waits until the file is removed or replaced, or ctx ends. A file that is not there is gone.
func (f File) AwaitGone(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	news := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = news.Close() }() // only read
	before, err := os.Lstat(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, f.path, unix.IN_ATTRIB|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = news.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		// Looked at after the watch is in place: what happened before it is not told.
		if now, err := os.Lstat(f.path); errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(before, now) {
			return nil
		}
		_, err := news.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.path, err)
		}
	}
}
