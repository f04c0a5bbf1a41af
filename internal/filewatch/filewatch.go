// Package filewatch tells when files have changed, however that was done: written in place, renamed over, or reached through a
// symbolic link that leads elsewhere, as Kubernetes does it.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long after a change files are read: writers often empty a file before they fill it, and write the
	// certificate before the key.
	settle = 50 * time.Millisecond
	// links is how many symbolic links a path may lead through, as for the kernel.
	links = 40
)

// Watch calls changed after any of the files may have changed, until ctx ends: written, renamed, removed, given another mode,
// or reached through another link. It fails when the kernel has no more watches to give.
func Watch(ctx context.Context, files []string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %v: %w", files, err)
	}
	defer func() { _ = w.Close() }() // it has been used up
	if err := follow(w, files); err != nil {
		return fmt.Errorf("watch %v: %w", files, err)
	}
	changed()                  // what was written between the first reading and now
	var quiet <-chan time.Time // not put off by further events: a folder may never be quiet
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
		case <-w.Errors: // events were lost: look
		case <-quiet:
			quiet = nil
			if err := follow(w, files); err != nil {
				return fmt.Errorf("watch %v: %w", files, err)
			}
			changed()
			continue
		}
		if quiet == nil {
			quiet = time.After(settle)
		}
	}
}

// follow makes w watch all places on the ways to files, as they are now.
func follow(w *fsnotify.Watcher, files []string) error {
	var last []string
	for range 5 { // a link may be exchanged before its folder is watched
		var all []string
		for _, f := range files {
			all = append(all, places(f)...)
		}
		slices.Sort(all)
		all = slices.Compact(all)
		for _, p := range all {
			if err := w.Add(p); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return err
			}
		}
		if slices.Equal(all, last) {
			break
		}
		last = all
	}
	for _, p := range w.WatchList() {
		if !slices.Contains(last, p) {
			_ = w.Remove(p) // it may have gone by itself
		}
	}
	return nil
}

// places lists what decides where a path leads: the folder of every symbolic link on the way, the folder in which it ends or
// in which the next part is missing, and the file itself, which may be a mount.
func places(path string) (out []string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	at, rest, hops := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0]) // at has no links, so that .. is what it says
		rest = rest[1:]
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			return append(out, at)
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		out = append(out, at)
		target, err := os.Readlink(next)
		if hops++; err != nil || hops > links {
			return out
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return append(out, filepath.Dir(at), at)
}
