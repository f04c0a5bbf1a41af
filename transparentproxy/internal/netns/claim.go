//go:build linux

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Changes are what a backend is about to do besides adding rules that are known by their names.
type Changes struct {
	// Addresses are needed on loopback.
	Addresses []netip.Prefix
	Created   []Created
	// Bare are rules that are added to those that the journal has.
	Bare []BareRule
}

// Claim notes in the journal what a backend is about to do, then adds the addresses that are missing. Addresses that others
// put there stay theirs. undo takes back what this call did, except for what was created and the rules, which are the
// backend's business.
func Claim(dir, backend string, c Changes, log *slog.Logger) (undo func() error, err error) {
	file, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	old, err := file.read()
	if err != nil {
		log.Warn("journal of earlier installation is not readable, starting a new one", "error", err)
	}
	missing, err := MissingAddresses(c.Addresses)
	if err != nil {
		return nil, err
	}
	next := journal{Created: slices.Clone(old.Created), Addresses: maps.Clone(old.Addresses), Bare: slices.Concat(old.Bare, c.Bare)}
	if next.Addresses == nil {
		next.Addresses = map[netip.Prefix][]string{}
	}
	for _, made := range c.Created {
		if !slices.Contains(next.Created, made) {
			next.Created = append(next.Created, made)
		}
	}
	for _, p := range c.Addresses {
		users := next.Addresses[p]
		if ours := len(users) > 0 || slices.Contains(missing, p); ours && !slices.Contains(users, backend) {
			next.Addresses[p] = append(slices.Clip(users), backend)
		}
	}
	if !next.equal(old) {
		// A read-only /run, as in a container, must not keep redirection away: only the removal is less exact then.
		if err := file.put(next); err != nil {
			log.Warn("what is created cannot be recorded; removal will leave empty tables and the loopback address", "error", err)
		} else {
			log.Debug("journal written", "path", file.Path())
		}
	}
	added, err := AddAddresses(missing)
	undo = func() error { return errors.Join(RemoveAddresses(added), warned(file.put(old), log)) }
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	if len(added) > 0 {
		log.Debug("addresses added to loopback", "addresses", added)
	}
	return undo, nil
}

// Bare lists the rules without comments that the journal has.
func Bare(dir string) ([]BareRule, error) {
	file, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	j, err := file.read()
	return j.Bare, err
}

// SetBare replaces the rules without comments that the journal has.
func SetBare(dir string, list []BareRule) error {
	file, err := openJournal(dir)
	if err != nil {
		return err
	}
	j, err := file.read()
	if err != nil || slices.Equal(j.Bare, list) {
		return err
	}
	j.Bare = list
	return file.put(j)
}

// warned turns the refusal of a read-only file system, as of a container, into a warning: what is in the kernel counts.
func warned(err error, log *slog.Logger) error {
	if errors.Is(err, unix.EROFS) {
		log.Warn("the journal stays as it is", "error", err)
		return nil
	}
	return err
}

// Release undoes what the journal says was done for a backend: deleteCreated gets what it had claimed as created, nil
// leaves that and rules without comments alone; then the addresses go that no other backend needs. released says whether there were addresses.
func Release(dir, backend string, deleteCreated func([]Created) error, log *slog.Logger) (released bool, err error) {
	file, err := openJournal(dir)
	if err != nil {
		return false, err
	}
	j, err := file.read()
	if err != nil {
		log.Warn("journal is not readable; empty tables and the loopback address stay", "error", err)
	}
	another := errors.Is(err, fs.ErrPermission) // it is another user's
	var errs []error
	if deleteCreated != nil {
		errs = append(errs, deleteCreated(j.Created))
		j.Created, j.Bare = nil, nil
	}
	var unused []netip.Prefix
	for _, a := range slices.SortedFunc(maps.Keys(j.Addresses), netip.Prefix.Compare) {
		users := slices.DeleteFunc(slices.Clone(j.Addresses[a]), func(u string) bool { return u == backend })
		switch {
		case len(users) == len(j.Addresses[a]):
		case len(users) > 0:
			j.Addresses[a] = users
		default:
			delete(j.Addresses, a)
			unused = append(unused, a)
		}
	}
	errs = append(errs, RemoveAddresses(unused))
	if !another {
		errs = append(errs, warned(file.put(j), log))
	}
	if err := errors.Join(errs...); err != nil {
		return len(unused) > 0, fmt.Errorf("undo what the journal says: %w", err)
	}
	return len(unused) > 0, nil
}
