//go:build !linux

package dns

import "net"

const pktinfoSize = 0

// receiveDestination does nothing: elsewhere the kernel's choice of a source has to do, as nothing is redirected there.
func receiveDestination(*net.UDPConn, bool) error { return nil }

func sourceControl([]byte) []byte { return nil }
