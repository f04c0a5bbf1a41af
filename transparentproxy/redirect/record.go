//go:build linux

package redirect

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// record is what is known of an installation beyond the kernel. Removal does without it.
type record struct {
	// ID tells this installation from every other.
	ID string
	// Backend is its name.
	Backend string
	// Config and Host are what the plan was made of.
	Config tp.Config
	Host   tp.Host
	// Addresses were added to loopback.
	Addresses []netip.Prefix
	At        time.Time
	// Removing says that a removal has begun: nothing is to be repaired any more.
	Removing bool
}

func (m *Manager) recordFile() (netns.File, error) { return netns.Open(m.cfg.StateDir, "installed") }

// read returns nil when nothing is known.
func (m *Manager) read() *record {
	f, err := m.recordFile()
	var r record
	found := false
	if err == nil {
		found, err = f.Read(&r)
	}
	switch {
	case err != nil:
		m.cfg.Log.Warn("record of the installation is not readable", "error", err)
		return m.last
	case !found:
		return m.memory
	}
	// A damaged record must not make us remove something else.
	r.Addresses = slices.DeleteFunc(r.Addresses, func(p netip.Prefix) bool { return !slices.Contains(netns.OwnAddresses, p) })
	m.last = &r
	return m.last
}

// write keeps the record, nil for none. A read-only /run, as in a container, must not keep redirection away: it is then
// known to this process only.
func (m *Manager) write(r *record) {
	f, err := m.recordFile()
	switch {
	case err != nil:
	case r == nil:
		err = f.Remove()
	default:
		err = f.Write(r)
	}
	m.memory, m.last = nil, r
	if err != nil {
		m.memory = r
		m.cfg.Log.Warn("the installation cannot be recorded: status needs the configuration again, and a removal leaves the loopback address", "error", err)
	}
}

// StateDir is DefaultStateDir where this process can use it; otherwise, for a user for whom nobody made that, a directory of
// their own, where kumactl does not look.
func StateDir() (dir string, shared bool) {
	if netns.Usable(DefaultStateDir) {
		return DefaultStateDir, true
	}
	return filepath.Join(os.TempDir(), "kuma-tproxy-"+strconv.Itoa(os.Geteuid())), false
}

// newID names an installation.
func newID() string { return rand.Text() }
