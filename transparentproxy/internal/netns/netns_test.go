//go:build linux

package netns

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

var (
	passthrough = []netip.Prefix{netip.MustParsePrefix("::6/128")}
	table       = Created{Family: tp.IPv4, Table: tp.TableNAT}
)

// lab is a host with a journal.
type lab struct {
	t    *testing.T
	host *netlab.Host
	dir  string
	log  bytes.Buffer
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{t: t, host: redirectlab.NewHosts(t, "tp-netns", "mesh")[0], dir: filepath.Join(t.TempDir(), "state")}
}

func (b *lab) do(f func(log *slog.Logger) error) {
	b.t.Helper()
	if err := b.host.Do(func() error { return f(slog.New(slog.NewTextHandler(&b.log, nil))) }); err != nil {
		b.t.Fatal(err)
	}
}

func (b *lab) claim(backend string, created ...Created) (undo func()) {
	b.t.Helper()
	var u func() error
	b.do(func(log *slog.Logger) (err error) {
		u, err = Claim(b.dir, backend, Changes{Addresses: passthrough, Created: created}, log)
		return err
	})
	return func() { b.t.Helper(); b.do(func(*slog.Logger) error { return u() }) }
}

func (b *lab) release(backend string) (released bool, created []Created) {
	b.t.Helper()
	b.do(func(log *slog.Logger) (err error) {
		released, err = Release(b.dir, backend, func(c []Created) error { created = c; return nil }, log)
		return err
	})
	return released, created
}

// want checks whether loopback has the address and there is a journal.
func (b *lab) want(when string, address, journal bool) {
	b.t.Helper()
	if got := strings.Contains(redirectlab.Shell(b.t, b.host, "", "ip -6 addr show dev lo"), "::6/128"); got != address {
		b.t.Errorf("%s: the address is there: %v", when, got)
	}
	files, _ := filepath.Glob(filepath.Join(b.dir, "*"))
	if got := len(files) > 0; got != journal {
		b.t.Errorf("%s: the journal is there: %v", when, got)
	}
}

func TestClaims(t *testing.T) {
	b := newLab(t)
	undo := b.claim("one", table)
	b.want("claimed", true, true)
	undo()
	b.want("undone", false, false)

	b.claim("one", table)
	b.claim("one")
	undo = b.claim("two")
	undo()
	b.want("the second one undone", true, true)
	b.claim("two")
	if released, created := b.release("one"); released || !slices.Equal(created, []Created{table}) {
		t.Errorf("the first one releases: %v, %v; want nothing and its table", released, created)
	}
	b.want("the first one gone", true, true)
	if released, created := b.release("two"); !released || len(created) > 0 {
		t.Errorf("the last one releases: %v, %v; want the address", released, created)
	}
	b.want("both gone", false, false)
	if released, _ := b.release("two"); released {
		t.Error("nothing is released twice")
	}

	redirectlab.Shell(t, b.host, "", "ip addr add ::6/128 dev lo")
	b.claim("one")
	b.want("somebody else's address", true, false)
	b.release("one")
	b.want("somebody else's address, gone", true, false)
	if b.log.Len() > 0 {
		t.Errorf("logged: %s", b.log.String())
	}
}

func TestJournalThatIsNotOurs(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string // what is changed in the file
		log            string
		stays          bool
	}{
		{"another namespace", `"namespace":"`, `"namespace":"x`, "", true},
		{"damaged", `{`, ``, "journal is not readable", false},
		{"an address that is never ours", `::6/128`, `::1/128`, "", false},
		{"nobody's address", `["one"]`, `[]`, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newLab(t)
			b.claim("one", table)
			files, err := filepath.Glob(filepath.Join(b.dir, "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("journal: %v, %v", files, err)
			}
			text, err := os.ReadFile(files[0])
			if err != nil || !strings.Contains(string(text), tc.from) {
				t.Fatalf("journal: %s, %v", text, err)
			}
			if err := os.WriteFile(files[0], []byte(strings.Replace(string(text), tc.from, tc.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if released, _ := b.release("one"); released {
				t.Error("an address was released")
			}
			b.want("released", true, tc.stays)
			if !strings.Contains(b.log.String(), tc.log) || tc.log == "" && b.log.Len() > 0 {
				t.Errorf("logged %q, want %q", b.log.String(), tc.log)
			}
		})
	}
}

// TestReadOnlyStateDir releases and undoes where the journal cannot be changed, as in a container.
func TestReadOnlyStateDir(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		undo           bool
		address        bool // is left
		warns          bool
	}{
		{name: "ours", warns: true},
		{name: "ours, undone", undo: true, warns: true},
		{name: "of an earlier namespace", from: `"namespace":"`, to: `"namespace":"x`, address: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newLab(t)
			undo := b.claim("one", table)
			files, err := filepath.Glob(filepath.Join(b.dir, "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("journal: %v, %v", files, err)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(string(text), tc.from, tc.to, 1)
			if err := os.WriteFile(files[0], []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			mount := func(flags uintptr) error { return unix.Mount(b.dir, b.dir, "", unix.MS_BIND|flags, "") }
			if err := errors.Join(mount(0), mount(unix.MS_REMOUNT|unix.MS_RDONLY)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Unmount(b.dir, 0); err != nil {
					t.Error(err)
				}
			}()
			if tc.undo {
				undo()
			} else {
				b.release("one")
			}
			b.want("afterwards", tc.address, true)
			if got, err := os.ReadFile(files[0]); err != nil || string(got) != want {
				t.Errorf("the journal was changed: %s, %v", got, err)
			}
			if warned := strings.Contains(b.log.String(), "the journal stays as it is"); warned != tc.warns {
				t.Errorf("logged %q", b.log.String())
			}
		})
	}
}

func TestStateDirOfSomebodyElse(t *testing.T) {
	b := newLab(t)
	if err := os.Mkdir(b.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	b.claim("one")
	b.want("claimed", true, false)
	if !strings.Contains(b.log.String(), "writable by nobody else") {
		t.Errorf("logged %q, want why there is no journal", b.log.String())
	}
}

func TestTransactions(t *testing.T) {
	host := redirectlab.NewHosts(t, "tp-netns", "mesh")[0]
	name := AppendString(nil, unix.NFTA_TABLE_NAME, "x")
	add := Message{Kind: unix.NFT_MSG_NEWTABLE, Flags: unix.NLM_F_CREATE, Family: unix.NFPROTO_INET, Attrs: name}
	remove := Message{Kind: unix.NFT_MSG_DELTABLE, Family: unix.NFPROTO_INET, Attrs: name}
	list := func() (n int) {
		if err := host.Do(func() error { l, err := List(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil); n = len(l); return err }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, tc := range []struct {
		name    string
		do      func() error
		refused int // -1 for none
		tables  int
	}{
		{"nothing", func() error { return Commit() }, -1, 0},
		{"try", func() error { return Try(add) }, -1, 0},
		{"try what is refused", func() error { return Try(add, remove, remove) }, 2, 0},
		{"half of it refused", func() error { return Commit(add, remove, remove, add) }, 2, 0},
		{"commit", func() error { return Commit(add) }, -1, 1},
		{"commit and take back", func() error { return Commit(add, remove) }, -1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := host.Do(tc.do)
			var refused *RefusedError
			switch {
			case tc.refused < 0 && err != nil:
				t.Error(err)
			case tc.refused >= 0 && (!errors.As(err, &refused) || refused.Index != tc.refused || !errors.Is(err, unix.ENOENT)):
				t.Errorf("got %#v, want that message %d is refused", err, tc.refused)
			}
			if got := list(); got != tc.tables {
				t.Errorf("got %d tables, want %d", got, tc.tables)
			}
		})
	}
}
