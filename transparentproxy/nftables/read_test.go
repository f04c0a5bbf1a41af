//go:build linux

package nftables

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// TestRefusedRules has the kernel refuse rules as one does that lacks a part.
func TestRefusedRules(t *testing.T) {
	tr := &transaction{}
	tr.add("a table", newTable(unix.NFPROTO_INET))
	if err := tr.fill(must(compile(redirectlab.NewFullPlan(t), unix.NFPROTO_INET))[0]); err != nil {
		t.Fatal(err)
	}
	seen := map[error]int{}
	for i := range tr.messages {
		err := tr.explain(&netns.RefusedError{Index: i, Errno: unix.ENOENT})
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v does not say why", tr.about[i], err)
		}
		for _, kind := range []error{tp.ErrNoZones, errors.ErrUnsupported, errNoTable} {
			if errors.Is(err, kind) {
				seen[kind]++
			}
		}
		if err := tr.explain(&netns.RefusedError{Index: i, Errno: unix.EPERM}); errors.Is(err, tp.ErrNoZones) || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v is taken for a lack", tr.about[i], err)
		}
	}
	if seen[tp.ErrNoZones] == 0 || seen[errors.ErrUnsupported] == 0 || seen[errNoTable] < 2 || seen[tp.ErrNoZones]+seen[errors.ErrUnsupported]+seen[errNoTable] >= len(tr.messages) {
		t.Errorf("of %d messages: %v", len(tr.messages), seen)
	}
}

func TestErrorsOfTheKernel(t *testing.T) {
	if err := fmt.Errorf("list: %w", unix.EOPNOTSUPP); !isAbsent(err) || isAbsent(unix.EPERM) || isAbsent(nil) {
		t.Error("a kernel without nf_tables is not recognised")
	}
	tr := &transaction{}
	tr.add("a table", newTable(unix.NFPROTO_INET))
	for _, tc := range []struct {
		refused netns.RefusedError
		want    string
	}{
		{netns.RefusedError{Index: 0, Errno: unix.EAFNOSUPPORT}, "the kernel refuses a table: not in this kernel: address family not supported by protocol"},
		{netns.RefusedError{Index: -1, Errno: unix.EPERM}, "the kernel refuses nf_tables: operation not permitted"},
		{netns.RefusedError{Index: 7, Errno: unix.EPERM}, "the kernel refuses nf_tables: operation not permitted"},
	} {
		if got := tr.explain(&tc.refused); got == nil || got.Error() != tc.want {
			t.Errorf("got %v, want %s", got, tc.want)
		}
	}
}

// FuzzDescribe checks that whatever a rule holds can be read, and is never taken for another rule because something of it
// was not understood.
func FuzzDescribe(f *testing.F) {
	for _, table := range must(compile(redirectlab.NewFullPlan(f), unix.NFPROTO_INET)) {
		e := &encoder{family: table.family}
		for _, c := range table.chains {
			for _, r := range c.rules {
				f.Add(must(marshal(table.family, e.rule(r))))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text := describe(b, map[string]string{"s": "contents"})
		more := netns.AppendAttr(b[:len(b)/4*4:len(b)/4*4], unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, netns.AppendString(nil, unix.NFTA_EXPR_NAME, "unknown"))
		items := 0
		whole := 0
		for _, v := range netns.Attrs(b) {
			items++
			whole += (len(v)+3)/4*4 + 4
		}
		if whole == len(b) && describe(more, nil) == text {
			t.Errorf("an expression more makes no difference: %q", text)
		}
		if (items == 0) != (text == "") {
			t.Errorf("%d expressions are described by %q", items, text)
		}
		parseElement(b)
	})
}
