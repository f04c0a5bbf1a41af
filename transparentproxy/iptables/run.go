//go:build linux

package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killDelay is how long a killed tool may keep its pipes open.
const killDelay = time.Second

// Exit codes of iptables for what stays wrong however often it is tried: its input, and a kernel that lacks something.
const (
	exitParameter = 2
	exitVersion   = 3
)

// badLine is how iptables-restore names a line of its input.
var badLine = regexp.MustCompile(`line:? (\d+)`)

// lacking is how the tools say that the kernel has no table, target, match or kind of chain for a rule.
var lacking = regexp.MustCompile(`do you need to insmod|missing kernel module|Table does not exist|CHAIN_ADD failed|TABLE_ADD failed|Could not fetch rule set generation id`)

// errLacking says what to do about it.
var errLacking = errors.New("this kernel lacks NAT or another part of netfilter: load nf_nat, xt_REDIRECT, xt_owner, xt_multiport, xt_comment and xt_CT, " +
	"or run a kernel with them")

// run runs a tool and returns its output. An error carries the command, what it said and the line of input it names.
func (c *Config) run(ctx context.Context, input, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = killDelay
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = os.Environ()
	if c.Sandbox || !lockable() {
		cmd.Env = append(cmd.Env, lockVariable+"="+namespaceLock)
	}
	if os.Geteuid() != 0 {
		// A program that is no user's root keeps only these when it starts another.
		cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient()}
	}
	err := c.inSandbox(cmd.Run)
	if err == nil {
		return stdout.String(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	said := strings.Join(strings.FieldsFunc(stderr.String(), func(r rune) bool { return r == '\n' }), "; ")
	if m := badLine.FindStringSubmatch(said); m != nil {
		lines := strings.Split(input, "\n")
		if n, convErr := strconv.Atoi(m[1]); convErr == nil && n >= 1 && n <= len(lines) {
			said += fmt.Sprintf(" (%s)", lines[n-1])
		}
	}
	err = fmt.Errorf("run %s: %w: %s", strings.Join(append([]string{path}, args...), " "), err, said)
	if lacking.MatchString(said) {
		err = fmt.Errorf("%w; %w", err, errLacking)
	}
	return "", err
}

// mayPass reports whether a failure may be over by itself.
func mayPass(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.Exited() && exit.ExitCode() != exitParameter && exit.ExitCode() != exitVersion && !errors.Is(err, errLacking)
}

const (
	// lockVariable tells iptables since 1.8.6 where its lock is, defaultLock is where it is otherwise.
	lockVariable = "XTABLES_LOCKFILE"
	defaultLock  = "/run/xtables.lock"
	// namespaceLock locks the network namespace, and needs no file system that can be written.
	namespaceLock = "/proc/self/ns/net"
)

// lockable reports whether legacy iptables will be able to lock: it does not start without, as in a container whose file
// system is read-only.
func lockable() bool {
	if os.Getenv(lockVariable) != "" {
		return true // the user's choice
	}
	return unix.Access(defaultLock, unix.W_OK) == nil || errors.Is(unix.Access(defaultLock, unix.F_OK), unix.ENOENT) &&
		unix.Access(filepath.Dir(defaultLock), unix.W_OK) == nil
}

// ambient returns those of the capabilities which iptables needs that this thread has.
func ambient() []uintptr {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return nil
	}
	var out []uintptr
	for _, c := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		if data[0].Permitted&(1<<c) != 0 {
			out = append(out, c)
		}
	}
	return out
}
