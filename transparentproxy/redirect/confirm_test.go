//go:build linux

package redirect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// unconfirmed installs until confirmed, with a guard in this process, whose end is told.
func (l *lab) unconfirmed(ctx context.Context, t *testing.T, m *redirect.Manager, timeout time.Duration) (id string, guard <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	cfg := config(func(c *tp.Config) { c.DNS.CaptureAll = true })
	l.do(t, func() (err error) {
		_, id, err = m.ApplyUnconfirmed(ctx, cfg, timeout, func(id string) error {
			ready := make(chan error, 1)
			g := l.manager(t, redirect.Auto, nil) //nolint:contextcheck // it takes that of the test
			go func() {
				ended <- l.Do(func() error { return g.Guard(ctx, id, timeout, func() error { ready <- nil; return nil }) })
			}()
			return <-ready
		})
		return err
	})
	return id, ended
}

func (l *lab) decision(t *testing.T, id string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var kept bool
	l.do(t, func() (err error) { kept, err = l.m.Decision(ctx, id); return err })
	return kept
}

func TestNotConfirmedIsTakenBack(t *testing.T) {
	for _, tc := range []struct {
		name, backend string
		before        func(*testing.T, *lab)
		want          redirect.State
	}{
		{"nothing before", "nftables", func(*testing.T, *lab) {}, redirect.Absent},
		{"nothing before, nft", "iptables-nft", func(*testing.T, *lab) {}, redirect.Absent},
		{"nothing before, legacy", "iptables-legacy", func(*testing.T, *lab) {}, redirect.Absent},
		{"another configuration", "nftables", func(t *testing.T, l *lab) {
			l.apply(t, l.m, config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
		}, redirect.InSync},
		{"iptables", "nftables", func(t *testing.T, l *lab) {
			l.apply(t, l.manager(t, "iptables-nft", nil), config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
		}, redirect.InSync},
		{"nftables", "iptables-legacy", func(t *testing.T, l *lab) {
			l.apply(t, l.m, config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
		}, redirect.InSync},
		{"another configuration of iptables", "iptables-nft", func(t *testing.T, l *lab) {
			l.apply(t, l.manager(t, "iptables-nft", nil), config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
		}, redirect.InSync},
		{"another backend", "iptables-legacy", func(t *testing.T, l *lab) {
			l.apply(t, l.manager(t, "iptables-nft", nil), config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
		}, redirect.InSync},
		{"changed by hand", "nftables", func(t *testing.T, l *lab) {
			l.apply(t, l.m, config(nil))
			l.shell(t, "nft insert rule inet kuma_mesh KUMA_MESH_INBOUND tcp dport '{ 1-3, 7 }' counter return")
		}, redirect.Drift},
		{"iptables changed by hand", "iptables-nft", func(t *testing.T, l *lab) {
			l.apply(t, l.manager(t, "iptables-nft", nil), config(nil))
			l.shell(t, "ip6tables-nft -t nat -D KUMA_MESH_OUTBOUND 2")
		}, redirect.Drift},
		{"Kuma's, in both flavours", "nftables", func(t *testing.T, l *lab) {
			kumasRules(t, l.Host, "nft")
			kumasRules(t, l.Host, "legacy")
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "rd-unconf", redirect.Auto)
			foreign(t, l.Host)
			tc.before(t, l)
			want := l.snapshot(t)
			id, guard := l.unconfirmed(t.Context(), t, l.manager(t, tc.backend, nil), 500*time.Millisecond)
			if l.decision(t, id) {
				t.Error("kept")
			}
			if err := <-guard; err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, l.snapshot(t)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
			if tc.want != "" {
				l.wants(t, tc.want)
			}
			l.remove(t, l.m)
			l.gone(t)
		})
	}
}

func TestConfirmedStays(t *testing.T) {
	l := newLab(t, "rd-conf", redirect.Auto)
	id, guard := l.unconfirmed(t.Context(), t, l.m, time.Hour)
	l.wants(t, redirect.InSync)
	st := l.status(t, l.m)
	if st.ConfirmBefore == nil || time.Until(*st.ConfirmBefore) < 59*time.Minute {
		t.Errorf("status tells nothing of it: %+v", st)
	}
	err := l.Do(func() error { _, err := l.m.Apply(t.Context(), config(nil)); return err })
	if err == nil || !strings.Contains(err.Error(), "an installation waits for confirmation until") {
		t.Errorf("another installation: %v", err)
	}
	l.do(t, func() error { return l.manager(t, redirect.Auto, nil).Confirm(t.Context()) })
	if !l.decision(t, id) {
		t.Error("not kept")
	}
	if err := <-guard; err != nil {
		t.Error(err)
	}
	l.wants(t, redirect.InSync)
	if err := l.Do(func() error { return l.m.Confirm(t.Context()) }); !errors.Is(err, redirect.ErrNotPending) {
		t.Errorf("confirmed twice: %v", err)
	}
	l.remove(t, l.m)
	l.gone(t)
}

func TestRollbackAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *lab, context.CancelFunc)
	}{
		{"by command", func(t *testing.T, l *lab, _ context.CancelFunc) {
			l.do(t, func() error { return l.manager(t, redirect.Auto, nil).Rollback(t.Context()) })
		}},
		{"when the guard is told to end", func(_ *testing.T, _ *lab, stop context.CancelFunc) { stop() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "rd-back", redirect.Auto)
			want := l.snapshot(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, guard := l.unconfirmed(ctx, t, l.m, time.Hour)
			tc.do(t, l, cancel)
			if err := <-guard; err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, l.snapshot(t)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
			l.gone(t)
		})
	}
}

// TestUninstallEndsTheWait removes everything; the guard then has nothing to bring back.
func TestUninstallEndsTheWait(t *testing.T) {
	l := newLab(t, "rd-unwait", redirect.Auto)
	l.apply(t, l.m, config(nil))
	_, guard := l.unconfirmed(t.Context(), t, l.m, time.Hour)
	l.remove(t, l.m)
	if err := <-guard; err != nil {
		t.Error(err)
	}
	l.gone(t)
}

// TestKilledGuard leaves an installation that nobody confirmed; the next one starts from what was before it.
func TestKilledGuard(t *testing.T) {
	l := newLab(t, "rd-noguard", redirect.Auto)
	want := l.snapshot(t)
	nobody := func(string) error { return nil }
	l.do(t, func() error {
		_, _, err := l.m.ApplyUnconfirmed(t.Context(), config(func(c *tp.Config) { c.DropInvalid = true }), -time.Hour, nobody)
		return err
	})
	l.apply(t, l.m, config(nil))
	l.wants(t, redirect.InSync)
	l.remove(t, l.m)
	if diff := cmp.Diff(want, l.snapshot(t)); diff != "" {
		t.Errorf("the host is not as before:\n%s", diff)
	}
}

func TestGuardThatDoesNotStartChangesNothing(t *testing.T) {
	l := newLab(t, "rd-badguard", redirect.Auto)
	want := l.snapshot(t)
	err := l.Do(func() error {
		_, _, err := l.m.ApplyUnconfirmed(t.Context(), config(nil), time.Hour, func(string) error { return errors.New("no such file") })
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(want, l.snapshot(t)); diff != "" {
		t.Errorf("something changed:\n%s", diff)
	}
	l.gone(t)
}
