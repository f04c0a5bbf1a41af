//go:build !linux

package dns

import "net"

// share opens nothing: other kernels do not spread clients among sockets, or let others in.
func share(socket, int) ([]*net.UDPConn, error) { return nil, nil }

func dropped(*net.UDPConn) uint32 { return 0 }
