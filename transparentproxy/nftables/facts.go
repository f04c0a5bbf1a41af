//go:build linux

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Facts adds to host what only nf_tables can see: Docker's chains, as far as they are there. It changes nothing. Without the
// right to ask, it adds nothing. The error is errors.ErrUnsupported when the kernel has no nf_tables.
func (b *Backend) Facts(ctx context.Context, host *tp.Host) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("look at nf_tables: %w", err)
	}
	for family, docker := range map[uint8]*bool{unix.NFPROTO_IPV4: &host.Docker4, unix.NFPROTO_IPV6: &host.Docker6} {
		chains, err := netns.List(unix.NFT_MSG_GETCHAIN, family, nil)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil
		case isAbsent(err):
			return fmt.Errorf("look at nf_tables: %w: %w", errors.ErrUnsupported, err)
		case err != nil:
			return fmt.Errorf("look at nf_tables: %w", err)
		}
		*docker = slices.ContainsFunc(chains, func(c netns.Object) bool {
			return c.String(unix.NFTA_CHAIN_TABLE) == tp.TableNAT && c.String(unix.NFTA_CHAIN_NAME) == tp.ChainDocker
		})
	}
	return nil
}

// Probe has the kernel check a transaction and take it back: what every plan needs and, if it is asked for zones, what those
// need, which decides about host.ConntrackZones. It takes as long as the packets under way do. The error is
// errors.ErrUnsupported when the kernel cannot redirect with nf_tables.
func (b *Backend) Probe(ctx context.Context, host *tp.Host, zones bool) error {
	err := ctx.Err()
	if err == nil {
		err = probe(host, tp.Redirect{Port: tp.DefaultOutboundPort}, zones)
	}
	if err != nil {
		return fmt.Errorf("try nf_tables: %w", err)
	}
	return nil
}

// probe needs a verdict: a redirection, but for tests.
func probe(host *tp.Host, verdict tp.Verdict, zones bool) error {
	t := &transaction{}
	t.add("a table", newTable(unix.NFPROTO_IPV4))
	add := func(protocol string, v tp.Verdict) error {
		query := condition{field: destinationPort, spans: []span{portSpan(53, 53)}}
		r := rule{ids: []string{"probe"}, protocol: protocol, conditions: []condition{query}, verdict: v}
		return t.fill(table{family: unix.NFPROTO_IPV4, chains: []chain{{name: "probe", rules: []rule{r}}}}) // which no packet passes
	}
	err := add("tcp", verdict)
	needed := len(t.messages)
	if err == nil && zones {
		err = add("udp", tp.Zone{ID: 1})
	}
	if err != nil {
		return err
	}
	err = t.explain(netns.Try(t.messages...))
	switch refused := (*netns.Refused)(nil); {
	case err == nil:
		host.ConntrackZones = host.ConntrackZones || zones
	case errors.Is(err, fs.ErrPermission):
		return err
	case isAbsent(err) || errors.As(err, &refused) && refused.Index >= 0 && refused.Index < needed:
		return fmt.Errorf("this kernel cannot redirect with it (%w): %w", errors.ErrUnsupported, err)
	case refused == nil || refused.Index < 0:
		return err
	default:
		host.ConntrackZones = false
	}
	return nil
}
