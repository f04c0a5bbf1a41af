//go:build linux

package iptables

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
)

// TestAnyPlan applies random plans, one after the other, or loads what a dry run prints of them with the real programs: they
// must take it, and what is then there must be the plan.
func TestAnyPlan(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-iptext", "mesh")[0]
	redirectlab.Shell(t, h, "", "ip -6 addr add ::6/128 dev lo nodad")
	backends := map[Flavour]*Backend{}
	for _, f := range flavours {
		backends[f] = newBackend(t, f)
		backends[f].cfg.Flavour = f
		if err := load(t.Context(), h, f, ""); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		flavour, plan := rapid.SampledFrom(flavours).Draw(rt, "flavour"), planmodel.AnyPlan(rt)
		o := tp.TextOptions{Verbose: rapid.Bool().Draw(rt, "verbose"), NoComments: rapid.IntRange(0, 4).Draw(rt, "no comments") == 0}
		b := backends[flavour]
		b.cfg.NoComments = o.NoComments
		apply := func() error { return h.Do(func() error { return b.Apply(t.Context(), plan) }) }
		loaded := rapid.Bool().Draw(rt, "load")
		if loaded {
			apply = func() error { return load(t.Context(), h, flavour, plan.Text(o)) }
		}
		if err := apply(); err != nil {
			rt.Fatalf("%s: %v\n%s", flavour, err, plan.Text(o))
		}
		if loaded && o.NoComments { // then rules in built-in chains may be anybody's, since no journal tells
			if err := load(t.Context(), h, flavour, ""); err != nil {
				rt.Fatal(err)
			}
			return
		}
		var d []tp.Difference
		if err := h.Do(func() (err error) { d, err = b.Check(t.Context(), plan); return err }); err != nil {
			rt.Fatal(err)
		}
		if len(d) > 0 {
			rt.Fatalf("%s: %v\n%s", flavour, d, plan.Text(o))
		}
	})
}

// load has the text replace all rules of a flavour, in both families, and has Docker's chain there.
func load(ctx context.Context, h *netlab.Host, flavour Flavour, text string) error {
	const empty = "*raw\n-F\n-X\nCOMMIT\n*mangle\n-F\n-X\nCOMMIT\n*nat\n-F\n-X\n-N " + tp.ChainDocker + "\nCOMMIT\n"
	v4, v6, _ := strings.Cut(text, "### IPv6 ###")
	for command, text := range map[string]string{"iptables": v4, "ip6tables": v6} {
		cmd := h.Command(ctx, 0, fmt.Sprintf("%s-%s-restore", command, flavour), "--noflush")
		cmd.Stdin = strings.NewReader(empty + text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	return nil
}
