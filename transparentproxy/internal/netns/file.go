//go:build linux

package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read: the rules of a busy host fit in.
const maxFile = 64 << 20

// File belongs to the network namespace of the thread that opened it. A file that an earlier namespace of the same number
// left counts as absent.
type File struct{ path, namespace string }

// Open names a file of this namespace; kind tells several apart. Nothing is read or made yet.
func Open(dir, kind string) (File, error) {
	name, id, err := identity()
	if err != nil {
		return File{}, fmt.Errorf("identify network namespace: %w", err)
	}
	return File{filepath.Join(dir, name+"."+kind+".json"), id}, nil
}

// identity returns a short name, which the kernel may give again, and an identity, which it does not.
func identity() (name, id string, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", err
	}
	unique, err := cookie()
	return strconv.FormatUint(st.Ino, 10), strings.TrimSpace(string(boot)) + ":" + unique, err
}

// cookie is never used twice before the next boot, unlike the inode. Kernels before 5.14 do not have it.
func cookie() (string, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(s)
	n, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return "", nil
	}
	return strconv.FormatUint(n, 10), err
}

// Path is where the file is.
func (f File) Path() string { return f.path }

// envelope is the form of every file.
type envelope struct {
	Namespace string          `json:"namespace"`
	Content   json.RawMessage `json:"content"`
}

// Read decodes the file into v, unless v is nil. found is false, and v as it was, when there is none for this namespace.
func (f File) Read(v any) (found bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s: %w", f.path, err)
		}
	}()
	// The directory may belong to the agent's user: what root reads there must be a file of its own, not a link to another.
	r, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }() // only read
	var e envelope
	if err := json.NewDecoder(io.LimitReader(r, maxFile)).Decode(&e); err != nil {
		return false, err
	}
	if e.Namespace != f.namespace {
		return false, nil
	}
	if v == nil {
		return true, nil
	}
	return true, json.Unmarshal(e.Content, v)
}

// Write replaces the file for good before it returns.
func (f File) Write(v any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", f.path, err)
		}
	}()
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b, err := json.Marshal(envelope{f.namespace, content})
	if err != nil {
		return err
	}
	owner, err := prepare(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".new-*") // 0600, exclusive
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, owner.give(tmp), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// Remove forgets the file; the directory goes with the last one. The file of an earlier namespace stays.
func (f File) Remove() error {
	// A read-only file system would refuse to remove even nothing, and a directory of another user has nothing of ours.
	if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !f.foreign() {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove record: %w", err)
		}
	}
	return removeDir(filepath.Dir(f.path))
}

// foreign reports whether the file is that of an earlier namespace with the same name.
func (f File) foreign() bool {
	found, err := f.Read(nil)
	return !found && err == nil
}

// removeDir removes the directory when it is empty. One that was made for the agent's user stays: its parent is not theirs,
// and within a unit of systemd it is a mount.
func removeDir(dir string) error {
	err := os.Remove(dir)
	for _, stays := range []error{nil, fs.ErrNotExist, fs.ErrPermission, unix.ENOTEMPTY, unix.EROFS, unix.EBUSY} {
		if errors.Is(err, stays) {
			return nil
		}
	}
	return fmt.Errorf("remove directory of records: %w", err)
}

// owner is whose the directory is, and so its files.
type owner struct{ uid, gid int }

// Usable reports whether this process can keep files in the directory, which is made if need be.
func Usable(dir string) bool {
	_, err := prepare(dir)
	return err == nil && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// prepare makes the directory and refuses one that others could write to. Root takes one of another user: only root can
// have put it under /run for them.
func prepare(dir string) (owner, error) {
	var st unix.Stat_t
	for { // others remove it when it is empty
		if err := os.MkdirAll(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return owner{}, err
		}
		err := unix.Lstat(dir, &st)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return owner{}, err
		}
	}
	o := owner{int(st.Uid), int(st.Gid)}
	if me := os.Geteuid(); st.Mode&unix.S_IFMT != unix.S_IFDIR || me != 0 && o.uid != me || st.Mode&0o022 != 0 {
		return owner{}, errors.New("the directory must be ours and writable by nobody else")
	}
	return o, nil
}

// give lets the owner of the directory read what root writes there.
func (o owner) give(f *os.File) error {
	if os.Geteuid() != 0 || o.uid == 0 {
		return nil
	}
	return f.Chown(o.uid, o.gid)
}
