//go:build linux

package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Apply makes the kernel follow the plan in one transaction, so that there is no moment without redirection when there was
// one. Nothing is written when the kernel follows it already. An error means that everything is as it was. It is
// errors.ErrUnsupported when this kernel cannot redirect with nf_tables, and tp.ErrNoZones when it has no conntrack zones.
func (b *Backend) Apply(ctx context.Context, plan *tp.Plan) error {
	err := ctx.Err()
	if err == nil {
		err = b.apply(plan)
	}
	if err != nil {
		return fmt.Errorf("apply redirection: %w", err)
	}
	return nil
}

func (b *Backend) apply(plan *tp.Plan) error {
	want, err := compile(plan, b.joint)
	if err != nil {
		return err
	}
	now, err := read()
	if err != nil {
		return err
	}
	undo, err := netns.Claim(b.cfg.StateDir, backend, netns.Changes{Addresses: plan.Addresses}, b.cfg.Log)
	if err != nil {
		return err
	}
	err = b.put(now, want)
	if errors.Is(err, errNoTable) {
		b.cfg.Log.Debug("one table for both families is not possible, making one for each", "error", err)
		if want, err = compile(plan, 0); err == nil {
			err = b.put(now, want)
		}
	}
	if err != nil {
		if errors.Is(err, errNoTable) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return errors.Join(err, undo())
	}
	return nil
}

// put replaces what is there, unless it is as wanted.
func (b *Backend) put(now map[uint8]*liveTable, want []table) error {
	d, err := compare(now, want)
	if err != nil {
		return err
	}
	anew, current := false, len(d) == 0
	for _, w := range want {
		if t := now[w.family]; t != nil {
			current = current && t.labelled(w)
			anew = anew || !t.mendable(w)
		}
	}
	if current {
		return nil
	}
	err = b.replace(now, want, anew)
	// What somebody else put into the table, or took out of it since it was read, may be in the way.
	if refused := (*netns.RefusedError)(nil); err != nil && !anew && errors.As(err, &refused) && !errors.Is(err, errNoTable) {
		err = b.replace(now, want, true)
	}
	return err
}

// mendable reports whether emptying the chains and filling them again is enough.
func (t *liveTable) mendable(want table) bool {
	return t.flags == 0 && !slices.ContainsFunc(want.chains, func(c chain) bool {
		live := t.chain(c.name)
		return live != nil && !c.hooked(live)
	})
}

func (b *Backend) replace(now map[uint8]*liveTable, want []table, anew bool) error {
	t, err := replacement(now, want, anew)
	if err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	b.cfg.Log.Debug("rules replaced", "messages", len(t.messages), "anew", anew)
	return nil
}

// replacement is the transaction that leads from what is there to what should be. Chains that the kernel enters by itself
// are emptied and filled again, not exchanged: of an old and a new chain a packet could pass the new one while the old
// rules were in force and the old one while the new ones were, and so meet no rule at all. Only a table that somebody else
// has changed in a way that this does not mend is made anew.
func replacement(now map[uint8]*liveTable, want []table, anew bool) (*transaction, error) {
	t := &transaction{}
	for _, w := range want {
		about := "table " + w.familyName() + " " + tableName
		t.add(about, newTable(w.family))
		switch old := now[w.family]; {
		case anew:
			t.add(about, deleteTable(w.family), newTable(w.family))
		case old != nil:
			t.add(about, deleteRules(w.family))
			for _, c := range old.chains {
				if !slices.ContainsFunc(w.chains, func(x chain) bool { return x.name == c.name }) {
					t.add("chain "+c.name, deleteChain(w.family, c.name))
				}
			}
		}
		if err := t.fill(w); err != nil {
			return nil, err
		}
	}
	for _, family := range families {
		if now[family] != nil && !slices.ContainsFunc(want, func(w table) bool { return w.family == family }) {
			t.add("table "+tableName, newTable(family), deleteTable(family)) // also when it is gone meanwhile
		}
	}
	return t, nil
}

// errNoTable says that the kernel does not have a kind of table or chain.
var errNoTable = errors.New("not in this kernel")

func (t *transaction) commit() error {
	return t.explain(netns.Commit(t.messages...))
}

// explain adds what a message that the kernel refused was about.
func (t *transaction) explain(err error) error {
	refused := (*netns.RefusedError)(nil)
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused):
		return err
	case refused.Index < 0 || refused.Index >= len(t.about):
		return fmt.Errorf("the kernel refuses nf_tables: %w", err)
	}
	kind := t.messages[refused.Index].Kind
	unknown := slices.Contains([]unix.Errno{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT}, refused.Errno)
	switch v := t.verdicts[refused.Index].(type) {
	case nil:
		if unknown && (kind == unix.NFT_MSG_NEWTABLE || kind == unix.NFT_MSG_NEWCHAIN) {
			err = fmt.Errorf("%w: %w", errNoTable, err)
		}
	case tp.Zone:
		if unknown {
			err = fmt.Errorf("%w: %w", tp.ErrNoZones, err)
		}
	case tp.Redirect:
		if unknown {
			err = fmt.Errorf("redirection to port %d: %w: %w", v.Port, errors.ErrUnsupported, err)
		}
	}
	return fmt.Errorf("the kernel refuses %s: %w", t.about[refused.Index], err)
}

// Remove deletes our tables, and the loopback address if we added it. It needs neither the journal nor the plan nor the
// user. removed says whether there was anything.
func (b *Backend) Remove(ctx context.Context) (removed bool, err error) {
	if err = ctx.Err(); err == nil {
		removed, err = b.remove()
	}
	if err != nil {
		return removed, fmt.Errorf("remove redirection: %w", err)
	}
	return removed, nil
}

func (b *Backend) remove() (bool, error) {
	list, err := (&reader{}).ourTables()
	if err != nil {
		return false, err
	}
	t := &transaction{}
	for _, o := range list {
		t.add("table "+table{family: o.Family}.familyName()+" "+tableName, newTable(o.Family), deleteTable(o.Family)) // also when it is gone meanwhile
	}
	removed := len(t.messages) > 0
	if err := t.commit(); err != nil {
		return false, err
	}
	released, err := netns.Release(b.cfg.StateDir, backend, nil, b.cfg.Log)
	return removed || released, err
}
