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
