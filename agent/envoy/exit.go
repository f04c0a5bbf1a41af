package envoy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/kuma-dp/kuma-dp/internal/portowner"
)

// ExitError says why Envoy ended although nobody asked for it.
type ExitError struct {
	// Status is the exit status, -1 when a signal ended the process.
	Status int
	// Signal is what ended the process, 0 when it exited.
	Signal syscall.Signal
	// Cause is a reason that was recognised, such as a port in use with its owner. Empty when none was.
	Cause string
	// Lines are the last ones Envoy printed on its standard error that say more than that all is well, oldest first,
	// without credentials.
	Lines []string
}

// Error names the status or the signal, the cause, and what Envoy printed last.
func (e *ExitError) Error() string {
	var b strings.Builder
	b.WriteString("envoy ended: ")
	if e.Signal != 0 {
		fmt.Fprintf(&b, "signal: %s", e.Signal)
	} else {
		fmt.Fprintf(&b, "exit status %d", e.Status)
	}
	if e.Cause != "" {
		fmt.Fprintf(&b, ": %s", e.Cause)
	}
	if len(e.Lines) == 0 {
		b.WriteString("; it printed no reason, try --envoy-log-level=debug")
		return b.String()
	}
	fmt.Fprintf(&b, "; its last words: %s", strings.Join(e.Lines, " | "))
	return b.String()
}

// explain makes the error of a process that ended by itself.
func (p *Process) explain(state *os.ProcessState, waitErr error) error {
	if state == nil {
		return fmt.Errorf("wait for envoy: %w", waitErr)
	}
	if state.Success() { // what WaitDelay complains about then is output of others
		return nil
	}
	lines := p.tail.lines()
	e := &ExitError{Status: state.ExitCode(), Cause: portInUse(lines), Lines: telling(lines)}
	if exit, ok := errors.AsType[*exec.ExitError](waitErr); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
			if e.Signal == syscall.SIGKILL {
				e.Cause = "somebody killed it, most often the kernel because memory ran out: see dmesg"
			}
		}
	}
	return e
}

// bindFailure is how Envoy says that an address is taken.
var bindFailure = regexp.MustCompile(`cannot bind '([^']+)': Address already in use`)

// portInUse finds who has the port that Envoy could not bind. Asked right after the failure, so most likely it is still so.
func portInUse(lines []string) string {
	for _, line := range lines {
		m := bindFailure.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		port, err := strconv.ParseUint(m[1][strings.LastIndexByte(m[1], ':')+1:], 10, 16)
		if err != nil {
			return fmt.Sprintf("address %s is in use", m[1])
		}
		return portowner.Explain("tcp", uint16(port))
	}
	return ""
}

// telling leaves out what Envoy prints when all is well, unless there is nothing else.
func telling(lines []string) []string {
	var out []string
	for _, line := range lines {
		if !quietLine.MatchString(line) {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return lines
	}
	return out
}

// quietLine is a log line below warning, in Envoy's default format.
var quietLine = regexp.MustCompile(`^\[[^\]]*\]\[\d+\]\[(?:trace|debug|info)\]`)
