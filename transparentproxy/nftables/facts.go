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
// ask, it adds nothing. The error is errors.ErrUnsupported when the kernel cannot redirect with nf_tables.
func (b *Backend) Facts(ctx context.Context, host *tp.Host) error {
	err := ctx.Err()
	if err == nil {
		err = facts(host, tp.Redirect{Port: tp.DefaultOutboundPort})
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("look at nf_tables: %w", err)
	}
	return nil
}

// facts needs a verdict: a redirection, but for tests.
func facts(host *tp.Host, verdict tp.Verdict) error {
	needed, all, err := probe(verdict)
	if err != nil {
		return err
	}
	err = all.explain(netns.Try(all.messages...))
	switch refused := (*netns.Refused)(nil); {
	case err == nil:
		host.ConntrackZones = true
	case errors.Is(err, fs.ErrPermission):
		return err
	case isAbsent(err) || errors.As(err, &refused) && refused.Index >= 0 && refused.Index < needed:
		return fmt.Errorf("this kernel cannot redirect with it (%w): %w", errors.ErrUnsupported, err)
	case refused == nil || refused.Index < 0:
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

// probe is a transaction for the kernel to check, in a chain that no packet would pass: first, in so many messages, what every
// plan needs, then what zones need.
func probe(verdict tp.Verdict) (needed int, t *transaction, err error) {
	t = &transaction{}
	t.add("a table", newTable(unix.NFPROTO_IPV4))
	add := func(protocol string, v tp.Verdict) {
		query := condition{field: destinationPort, spans: []span{portSpan(53, 53)}}
		r := rule{ids: []string{"probe"}, protocol: protocol, conditions: []condition{query}, verdict: v}
		err = errors.Join(err, t.fill(table{family: unix.NFPROTO_IPV4, chains: []chain{{name: "probe", rules: []rule{r}}}}))
	}
	add("tcp", verdict)
	needed = len(t.messages)
	add("udp", tp.Zone{ID: 1})
	return needed, t, err
}
