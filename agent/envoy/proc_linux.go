package envoy

import "syscall"

// sysProcAttr gives Envoy its own process group, so that Ctrl-C reaches the agent only, which then drains; and lets the
// kernel kill it when the agent dies without a word, as two Envoys cannot have the same ports.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
