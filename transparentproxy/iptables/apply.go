//go:build linux

package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// step is a change of one tool's rules.
type step struct {
	tool   tool
	before *ruleset
	want   desired
	plan   *tp.FamilyPlan // nil to remove
}

// Apply makes the kernel follow the plan, replacing what was there of ours or Kuma's, in both flavours. A family that is in
// sync is not touched; otherwise it takes one iptables-restore. There is no moment without redirection when one was there.
// When something fails, everything is put back as it was, and the error is that of the failure.
func (b *Backend) Apply(ctx context.Context, plan *tp.Plan) error {
	if err := plan.Check(); err != nil {
		return fmt.Errorf("apply redirection: %w", err)
	}
	now, err := b.read(ctx)
	if err != nil {
		return fmt.Errorf("apply redirection: %w", err)
	}
	steps, err := b.steps(now, b.choose(now), plan)
	if err != nil {
		return fmt.Errorf("apply redirection: %w", err)
	}
	undo, settle, err := b.prepare(steps, plan)
	if err != nil {
		return fmt.Errorf("apply redirection: %w", err)
	}
	if err := b.perform(ctx, steps); err != nil {
		return fmt.Errorf("apply redirection: %w", errors.Join(err, undo()))
	}
	settle()
	for _, s := range steps {
		b.warnDoubtful(s.tool, s.before)
	}
	return nil
}

// steps lists the changes: first the chosen flavour, IPv4 before IPv6, then what is left over in the other flavour.
func (b *Backend) steps(now survey, chosen Flavour, plan *tp.Plan) ([]step, error) {
	var first, then []step
	for _, t := range b.tools {
		rs := now[t]
		if rs == nil {
			continue
		}
		s := step{tool: t, before: rs}
		if t.flavour == chosen {
			s.plan = plan.Family(t.family)
		}
		s.want = desiredOf(s.plan, b.cfg.NoComments)
		if err := s.check(); err != nil {
			return nil, err
		}
		switch {
		case len(compare(t.flavour, t.family, rs, s.plan)) == 0:
		case s.plan != nil:
			first = append(first, s)
		default:
			then = append(then, s)
		}
	}
	for _, f := range plan.Families {
		if !slices.ContainsFunc(b.tools, func(t tool) bool { return t.family == f.Family && t.flavour == chosen && now[t] != nil }) {
			return nil, fmt.Errorf("%v is to be redirected, but %s (%s) is missing or does not work; install it or use --ip-family-mode ipv4",
				f.Family, command(f.Family), chosen)
		}
	}
	return append(first, then...), nil
}

// check refuses what cannot be done exactly.
func (s step) check() error {
	for _, name := range s.before.incompatible {
		if _, needed := s.want[name]; needed {
			return fmt.Errorf("table %s of %v holds native nft rules, which %s cannot read; move them to a table of their own",
				name, s.tool.family, s.tool.save)
		}
	}
	if jumps := s.before.foreignJumps(); len(s.want) == 0 && len(jumps) > 0 {
		return fmt.Errorf("%v rule of somebody else uses our chain; remove it first: %s", s.tool.family, jumps[0])
	}
	return nil
}

// claimant is who needs addresses, in the journal.
const claimant = "iptables"

// prepare does what comes before rules: the journal, then the addresses. undo undoes it; settle drops from the journal what
// the change has replaced.
func (b *Backend) prepare(steps []step, plan *tp.Plan) (undo func() error, settle func(), err error) {
	changes := netns.Changes{Addresses: plan.Addresses}
	for _, s := range steps {
		if s.plan != nil && s.tool.flavour == NFT {
			there, err := nftObjects(s.tool.family)
			if err != nil {
				return nil, nil, err
			}
			changes.Created = append(changes.Created, toCreate(there, s.plan)...)
		}
	}
	old, err := netns.Bare(b.cfg.StateDir)
	if err != nil { // Claim says so
		old = nil
	}
	var settled []netns.BareRule // without what the steps replace
	for _, r := range old {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.tool.has(r) }) {
			settled = append(settled, r)
		}
	}
	for _, s := range steps {
		changes.Bare = append(changes.Bare, s.bareRules()...)
	}
	settled = append(settled, changes.Bare...)
	unclaim, err := netns.Claim(b.cfg.StateDir, claimant, changes, b.cfg.Log)
	if err != nil {
		return nil, nil, err
	}
	undo = func() error { return errors.Join(deleteCreated(changes.Created), unclaim()) }
	settle = func() {
		if len(settled) == len(old)+len(changes.Bare) {
			return
		}
		if err := netns.SetBare(b.cfg.StateDir, settled); err != nil {
			b.cfg.Log.Warn("what was replaced stays in the journal", "error", err)
		}
	}
	return undo, settle, nil
}

// perform makes the changes in order and takes all of them back when one fails.
func (b *Backend) perform(ctx context.Context, steps []step) error {
	for i, s := range steps {
		err := b.change(ctx, s)
		if err == nil {
			continue
		}
		uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		for _, done := range slices.Backward(steps[:i+1]) {
			back := step{tool: done.tool, want: desiredBefore(done.before)}
			if uerr := b.change(uctx, back); uerr != nil {
				err = errors.Join(err, fmt.Errorf("put %v rules back as they were: %w", done.tool.family, uerr))
			}
		}
		return err
	}
	return nil
}

// change brings one tool's rules to what is wanted. Because rules are removed by what they say, and not by their number, a
// change that others make between reading and writing makes the write fail rather than hit a wrong rule; it is then tried
// again from what is there. A failure that may pass, such as a lock that is held, is waited for.
func (b *Backend) change(ctx context.Context, s step) error {
	now := s.before
	var last error
	for conflicts, retries := 0, 0; conflicts < attempts; {
		if now == nil {
			var err error
			if now, err = b.readOne(ctx, s.tool); err != nil {
				return errors.Join(last, err)
			}
		}
		text := transition(now, s.want)
		if text == "" {
			return nil
		}
		err := s.tool.write(ctx, &b.cfg, text)
		if err == nil {
			b.cfg.Log.Debug("rules changed", "family", s.tool.family, "flavour", s.tool.flavour)
			return nil
		}
		after, rerr := b.readOne(ctx, s.tool)
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		last, now = err, after
		if transition(after, s.want) != text {
			conflicts++
			continue
		}
		// Nobody changed anything: only time can help.
		if retries++; retries > b.cfg.MaxRetries || !mayPass(err) {
			return err
		}
		b.cfg.Log.Warn("changing rules failed, trying again", "attempt", retries, "of", b.cfg.MaxRetries, "in", b.cfg.RetryDelay, "error", err)
		select {
		case <-time.After(b.cfg.RetryDelay):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		now = nil
	}
	return last
}

// Remove takes out everything of ours and of Kuma's, in both flavours and families, and what the journal says was created
// for it. It needs neither the journal nor the plan nor the user. removed says whether there was anything.
func (b *Backend) Remove(ctx context.Context) (removed bool, err error) {
	now, err := b.read(ctx)
	if err != nil {
		return false, fmt.Errorf("remove redirection: %w", err)
	}
	var errs []error
	for _, t := range b.tools {
		rs := now[t]
		if rs == nil {
			continue
		}
		if err := b.checkHidden(t, rs); err != nil {
			errs = append(errs, err)
		}
		b.warnDoubtful(t, rs)
		if !rs.hasOurs() {
			continue
		}
		s := step{tool: t, before: rs}
		err := s.check()
		if err == nil {
			err = b.perform(ctx, []step{s})
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		removed = true
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("remove redirection: %w", err)
	}
	released, err := netns.Release(b.cfg.StateDir, claimant, deleteCreated, b.cfg.Log)
	if err != nil {
		return removed, fmt.Errorf("remove redirection: %w", err)
	}
	return removed || released, nil
}

// warnDoubtful names the rules that stay because they may be somebody else's.
func (b *Backend) warnDoubtful(t tool, rs *ruleset) {
	for _, r := range rs.doubtfulRules() {
		b.cfg.Log.Warn("rule without comment may be of an earlier installation, and stays; remove it if it is", "family", t.family, "flavour", t.flavour, "rule", r)
	}
}

// checkHidden reports chains of ours in tables that iptables cannot read: saying that nothing is there would be wrong
// (contract transparentproxy.md §4.6).
func (b *Backend) checkHidden(t tool, rs *ruleset) error {
	if !slices.Contains(rs.incompatible, tp.TableNAT) {
		return nil
	}
	there, err := nftObjects(t.family)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(ownChains, func(c string) bool { return there[netns.Created{Family: t.family, Table: tp.TableNAT, Chain: c}] }) {
		return fmt.Errorf("table nat of %v holds our rules together with native nft rules, which %s cannot read; "+
			"move the native rules to a table of their own, then try again", t.family, t.save)
	}
	return nil
}
