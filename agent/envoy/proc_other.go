//go:build unix && !linux

package envoy

import "syscall"

// sysProcAttr gives Envoy its own process group, so that Ctrl-C reaches the agent only. Here nothing ends Envoy when the
// agent is killed.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// dropAmbient has nothing to keep from Envoy: other systems have no such capabilities.
func dropAmbient() error { return nil }
