//go:build linux

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Facts adds to host what only nf_tables can see: whether the kernel knows conntrack zones, which it says of a transaction
// that is not committed, and Docker's chains, as far as they are in nf_tables. It changes nothing. Without the right to
// ask, it adds nothing; it fails when the kernel has no nf_tables.
func (b *Backend) Facts(ctx context.Context, host *tp.Host) error {
	err := ctx.Err()
	if err == nil {
		err = facts(host)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("look at nf_tables: %w", err)
	}
	return nil
}

func facts(host *tp.Host) error {
	err := tryZones()
	switch refused := (*netns.Refused)(nil); {
	case err == nil:
		host.ConntrackZones = true
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, errNoTable) || !errors.As(err, &refused) || refused.Index < 0:
		return err
	default:
		host.ConntrackZones = false
	}
	for family, docker := range map[uint8]*bool{unix.NFPROTO_IPV4: &host.Docker4, unix.NFPROTO_IPV6: &host.Docker6} {
		chains, err := netns.List(unix.NFT_MSG_GETCHAIN, family, nil)
		if err != nil {
			return err
		}
		for _, c := range chains {
			if c.String(unix.NFTA_CHAIN_TABLE) == tp.TableNAT && c.String(unix.NFTA_CHAIN_NAME) == tp.ChainDocker {
				*docker = true
			}
		}
	}
	return nil
}

// tryZones has the kernel check the rule that needs zones, in a chain that no packet would pass.
func tryZones() error {
	query := condition{field: destinationPort, spans: []span{portSpan(53, 53)}}
	t := &transaction{}
	t.add("a table", newTable(unix.NFPROTO_IPV4))
	err := t.fill(table{family: unix.NFPROTO_IPV4, chains: []chain{{
		name:  "probe",
		rules: []rule{{ids: []string{"probe"}, protocol: "udp", conditions: []condition{query}, verdict: tp.Zone{ID: 1}}},
	}}})
	if err != nil {
		return err
	}
	return t.explain(netns.Try(t.messages...))
}
