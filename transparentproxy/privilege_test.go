//go:build linux

package transparentproxy

import (
	"slices"
	"strings"
	"testing"
)

func TestMissingCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name, status string
		want         []string
		err          string
	}{
		{name: "root", status: "Name:\tx\nCapEff:\t000001ffffffffff\n"},
		{name: "only these two", status: "CapEff:\t0000000000003000\n"},
		{name: "none", status: "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n", want: []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}},
		{name: "no raw", status: "CapEff:\t0000000000001000\n", want: []string{"CAP_NET_RAW"}},
		{name: "all but admin", status: "CapEff:\tffffffffffffefff\n", want: []string{"CAP_NET_ADMIN"}},
		{name: "not said", status: "Name:\tx\n", err: "does not tell"},
		{name: "no number", status: "CapEff:\tall\n", err: "find out own capabilities"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := missingCapabilities(tc.status)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestUIDOnly(t *testing.T) {
	for name, want := range map[string]uint32{"": DefaultUID, "0": 0, "4000000000": 4000000000} {
		if got, err := lookupUID(name, true); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"nobody", "1-2", "-1", "1,2"} {
		if got, err := lookupUID(name, true); err == nil {
			t.Errorf("%q: got %d, want an error", name, got)
		}
	}
}
