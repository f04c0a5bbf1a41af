//go:build linux

package netns

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
)

// SaveJournal returns what the journal says, for RestoreJournal.
func SaveJournal(dir string, log *slog.Logger) (json.RawMessage, error) {
	file, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	j, err := file.read()
	if err != nil {
		log.Warn("journal of earlier installation is not readable", "error", err)
	}
	return json.Marshal(j)
}

// RestoreJournal brings back what SaveJournal returned while rules brings back the rules: deleteCreated gets what was
// created since, then the addresses go that were added since.
func RestoreJournal(dir string, saved json.RawMessage, rules func() error, deleteCreated func([]Created) error, log *slog.Logger) error {
	var then journal
	if err := json.Unmarshal(saved, &then); err != nil {
		return err
	}
	then.keepKnown()
	file, err := openJournal(dir)
	if err != nil {
		return err
	}
	now, err := file.read()
	if err != nil {
		log.Warn("journal of the installation is not readable", "error", err)
	}
	fresh := now.without(then)
	// Until all is done the journal names what either of them has: the process may be killed in between.
	both := journal{Created: slices.Concat(then.Created, fresh.Created), Bare: slices.Concat(then.Bare, fresh.Bare), Addresses: maps.Clone(now.Addresses)}
	if both.Addresses == nil {
		both.Addresses = map[netip.Prefix][]string{}
	}
	maps.Copy(both.Addresses, then.Addresses)
	if err := file.put(both); err != nil {
		log.Warn("what is created cannot be recorded", "error", err)
	}
	return errors.Join(rules(), deleteCreated(fresh.Created), RemoveAddresses(slices.Collect(maps.Keys(fresh.Addresses))), warned(file.put(then), log))
}

// without is what this journal has and the other has not.
func (j journal) without(o journal) journal {
	addresses := maps.Clone(j.Addresses)
	maps.DeleteFunc(addresses, func(a netip.Prefix, _ []string) bool { return o.Addresses[a] != nil })
	return journal{
		Created:   slices.DeleteFunc(slices.Clone(j.Created), func(c Created) bool { return slices.Contains(o.Created, c) }),
		Bare:      slices.DeleteFunc(slices.Clone(j.Bare), func(r BareRule) bool { return slices.Contains(o.Bare, r) }),
		Addresses: addresses,
	}
}
