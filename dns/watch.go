package dns

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long after a change resolv.conf is read: writers often empty a file before they fill it.
const settle = 50 * time.Millisecond

// maxResolvConf bounds what is read of a resolv.conf.
const maxResolvConf = 1 << 20

// readUpstreams reads the upstreams of the host.
func readUpstreams(path, systemd string) (resolvConf, error) {
	c, err := readResolvConf(path)
	if err != nil {
		return c, fmt.Errorf("read upstreams: %w", err)
	}
	if c.onlyStub() {
		if real, err := readResolvConf(systemd); err == nil && len(real.servers) > 0 {
			return real, nil
		}
	}
	return c, nil
}

func readResolvConf(path string) (resolvConf, error) {
	info, err := os.Stat(path)
	if err != nil {
		return resolvConf{}, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for a writer
		return resolvConf{}, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return resolvConf{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxResolvConf+1))
	if err == nil && len(content) > maxResolvConf {
		err = fmt.Errorf("%s has more than the %d bytes that a resolv.conf may have", path, maxResolvConf)
	}
	if err != nil {
		return resolvConf{}, err
	}
	c := parseResolvConf(content)
	c.path = path
	return c, nil
}

// watch calls changed after any of the files may have changed, until ctx ends. It watches the files themselves, which may be
// bind mounts, and the folders that they and their link targets are in, because most writers replace files by renaming.
// What cannot be watched, for example because the folder does not exist, is left out.
func watch(ctx context.Context, changed func(), files ...string) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %v: %w", files, err)
	}
	defer func() { _ = w.Close() }() // it has been used up
	add := func() (some bool) {
		for _, p := range paths(files) {
			some = w.Add(p) == nil || some
		}
		return some
	}
	if !add() {
		return fmt.Errorf("watch %v: neither the files nor their folders can be watched", files)
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
			add() // a new file or link target is not watched yet
			changed()
			continue
		}
		if quiet == nil {
			quiet = time.After(settle)
		}
	}
}

// paths lists what to watch for changes of files: them, what they link to, and the folders of both.
func paths(files []string) []string {
	var out []string
	for _, f := range files {
		out = append(out, f, filepath.Dir(f))
		if target, err := filepath.EvalSymlinks(f); err == nil {
			out = append(out, target, filepath.Dir(target))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
