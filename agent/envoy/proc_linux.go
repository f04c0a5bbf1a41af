package envoy

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysProcAttr gives Envoy its own process group, so that Ctrl-C reaches the agent only, which then drains; and lets the
// kernel kill it when the agent dies without a word, as two Envoys cannot have the same ports.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// dropAmbient keeps children of this thread from inheriting what redirection takes. Capabilities for other ends, such as low
// ports, stay.
func dropAmbient() error {
	for _, c := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, c, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel without ambient capabilities has none to pass on
			return fmt.Errorf("keep capabilities from envoy: %w", err)
		}
	}
	return nil
}
