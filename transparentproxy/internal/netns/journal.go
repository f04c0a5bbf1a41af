//go:build linux

package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// DefaultStateDir is outside /run/kuma, which may belong to the agent's user: root must not follow what that user puts there.
const DefaultStateDir = "/run/kuma-tproxy"

// journal records, per network namespace, what backends created besides rules, chains and tables of ours, which are known
// by their names. Without it removal still removes those, and leaves empty built-in tables and the loopback address.
type journal struct {
	// Namespace tells this namespace from an earlier one with the same file name.
	Namespace string
	// Created are built-in chains and tables of iptables' nft flavour that did not exist before.
	Created []Created
	// Addresses were added to the loopback interface, each for the backends named: the last one to go takes it away.
	Addresses map[string][]string
	// Bare are rules in built-in chains that have no comment by which they could be known.
	Bare []BareRule `json:",omitempty"`
}

// Created is a built-in chain, or a whole table when Chain is empty.
type Created struct {
	Family       tp.Family
	Table, Chain string
}

// BareRule is a rule of iptables in a built-in chain. Its words mean something to iptables only, which also decides whether
// the rule can be one of its own.
type BareRule struct {
	Flavour string
	Family  tp.Family
	Table   string
	Chain   string
	Rule    string
}

func (j journal) empty() bool { return len(j.Created)+len(j.Addresses)+len(j.Bare) == 0 }

func (j journal) equal(o journal) bool {
	return slices.Equal(j.Created, o.Created) && slices.Equal(j.Bare, o.Bare) && maps.EqualFunc(j.Addresses, o.Addresses, slices.Equal[[]string])
}

// journalFile is where the journal of the calling thread's namespace is.
type journalFile struct {
	path, namespace string
}

func openJournal(dir string) (journalFile, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return journalFile{}, fmt.Errorf("identify network namespace: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return journalFile{}, fmt.Errorf("identify network namespace: %w", err)
	}
	cookie, err := namespaceCookie()
	if err != nil {
		return journalFile{}, fmt.Errorf("identify network namespace: %w", err)
	}
	return journalFile{
		path:      filepath.Join(dir, strconv.FormatUint(st.Ino, 10)+".json"),
		namespace: strings.TrimSpace(string(boot)) + ":" + cookie,
	}, nil
}

// namespaceCookie is never used twice before the next boot, unlike the inode. Kernels before 5.14 do not have it.
func namespaceCookie() (string, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(s)
	cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return "", nil
	}
	return strconv.FormatUint(cookie, 10), err
}

// read returns an empty journal when there is none for this namespace.
func (f journalFile) read() (journal, error) {
	j := journal{Namespace: f.namespace}
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, fmt.Errorf("read journal: %w", err)
	}
	var old journal
	if err := json.Unmarshal(b, &old); err != nil {
		return j, fmt.Errorf("read journal %s: %w", f.path, err)
	}
	if old.Namespace != f.namespace {
		return j, nil
	}
	old.keepKnown()
	return old, nil
}

// tables of iptables that a backend may have made the kernel create.
var tables = []string{tp.TableRaw, tp.TableNAT, tp.TableMangle}

// keepKnown drops what no apply writes: a damaged journal must not make us remove something else.
func (j *journal) keepKnown() {
	j.Created = slices.DeleteFunc(j.Created, func(c Created) bool { return !slices.Contains(tables, c.Table) })
	j.Bare = slices.DeleteFunc(j.Bare, func(r BareRule) bool { return !slices.Contains(tables, r.Table) })
	maps.DeleteFunc(j.Addresses, func(a string, users []string) bool { return !slices.Contains(ownAddresses, a) || len(users) == 0 })
}

// put replaces the journal, or forgets it when it says nothing.
func (f journalFile) put(j journal) error {
	if j.empty() {
		return f.remove()
	}
	return f.write(j)
}

// write replaces the journal for good before it returns.
func (f journalFile) write(j journal) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write journal %s: %w", f.path, err)
		}
	}()
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return errors.New("the directory must be ours and writable by nobody else")
	}
	tmp, err := os.CreateTemp(dir, ".journal-*") // 0600, exclusive
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// foreign reports whether the file is that of an earlier namespace with the same file name.
func (f journalFile) foreign() bool {
	b, err := os.ReadFile(f.path)
	var j struct{ Namespace string }
	return err == nil && json.Unmarshal(b, &j) == nil && j.Namespace != f.namespace
}

// remove forgets the journal; the directory goes with the last one. A file system that is read-only refuses to remove even
// what is not there.
func (f journalFile) remove() error {
	if f.foreign() {
		return nil
	}
	gone := func(path string, err error) bool {
		_, there := os.Lstat(path)
		return err == nil || errors.Is(there, fs.ErrNotExist)
	}
	if err := os.Remove(f.path); !gone(f.path, err) {
		return fmt.Errorf("remove journal: %w", err)
	}
	dir := filepath.Dir(f.path)
	if err := os.Remove(dir); !gone(dir, err) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("remove journal directory: %w", err)
	}
	return nil
}
