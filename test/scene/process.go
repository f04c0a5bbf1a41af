//go:build linux

package scene

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a long-running command of a scene.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *lineLog
	done chan struct{}
	err  error // set before done is closed
}

// start runs cmd until the scene closes or somebody stops it.
func (s *Scene) start(name string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: name, cmd: cmd, log: &lineLog{name: name, out: s.cfg.Logs}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes = append(s.processes, p)
	return p, nil
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// PID is the process id in the machine's own numbering.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended: its exit code (-1 when a signal ended it) and, when that is not 0, what it printed last.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		if p.err != nil {
			return p.cmd.ProcessState.ExitCode(), fmt.Errorf("%s: %w; it said: %s", p.Name, p.err, p.log.Tail())
		}
		return 0, nil
	case <-ctx.Done():
		return -1, fmt.Errorf("wait for %s to end: %w", p.Name, ctx.Err())
	}
}

// Log returns all that the process has printed so far.
func (p *Process) Log() string { return p.log.String() }

func (p *Process) kill() {
	// The group, since the command may have children; ESRCH means that it ended by itself.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// lineLog keeps what a process prints, and shows it line by line.
type lineLog struct {
	name string
	out  io.Writer

	mu   sync.Mutex
	all  bytes.Buffer
	line bytes.Buffer
}

func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(b)
	if l.out == nil {
		return len(b), nil
	}
	for rest := b; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.line.Write(rest)
			break
		}
		if _, err := fmt.Fprintf(l.out, "%-10s| %s%s\n", l.name, l.line.Bytes(), rest[:i]); err != nil {
			return 0, err
		}
		l.line.Reset()
		rest = rest[i+1:]
	}
	return len(b), nil
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// Tail returns the last lines.
func (l *lineLog) Tail() string {
	const lines = 12
	all := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "\n  " + strings.Join(all, "\n  ")
}

// output runs cmd to its end and returns what it printed; an error carries the command and its standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// await calls check until it returns nil, and gives up when ctx ends or p has ended, with the last reason. Other processes
// offer no event to wait for, so this is the one place where the scene asks again and again.
func await(ctx context.Context, p *Process, what string, check func(context.Context) error) error {
	const pause = 5 * time.Millisecond
	var ended <-chan struct{}
	if p != nil {
		ended = p.done
	}
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			_, err := p.Wait(ctx)
			return fmt.Errorf("wait for %s: %w", what, errors.Join(errors.New("the process has ended"), err))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// Await calls check until it returns nil; when ctx ends first, the error holds check's last one.
func Await(ctx context.Context, what string, check func(context.Context) error) error {
	return await(ctx, nil, what, check)
}
