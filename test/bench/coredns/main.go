// Command coredns is a CoreDNS with the few plug-ins that the agent's resolver is measured beside: names from a file, a cache
// and upstreams. It is a module of its own, so that its requirements are not those of the product.
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"

	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
