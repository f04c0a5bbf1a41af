package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// pipeDelay is how long output may still come after the process has ended, from children it left behind.
const pipeDelay = time.Second

// Process is one run of Envoy. Run is called once; all other methods may be called at any time by any goroutine.
type Process struct {
	cfg   Config
	admin *adminClient
	tail  *tail

	mu    sync.Mutex
	state State
	pid   int
	ran   bool

	inbound sync.Mutex // held while DrainInbound calls Envoy
	drained bool       // it did: there is nothing left to wait for

	started  chan struct{} // closed once Envoy runs, or never will
	stop     chan struct{} // closed to ask for the end
	stopOnce sync.Once
	done     chan struct{} // closed once there is no process; err is set before
	err      error
}

// New checks the configuration. Nothing is started or written.
func New(cfg Config) (*Process, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure envoy: %w", err)
	}
	return &Process{
		cfg:     cfg,
		admin:   newAdminClient(cfg.Admin),
		tail:    newTail(cfg.Stderr),
		started: make(chan struct{}),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}, nil
}

// Args returns the arguments Envoy is started with, without its own name.
func (p *Process) Args() []string { return p.cfg.args() }

// PID returns the process id, 0 before Envoy was started.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Done is closed when there is no process any more.
func (p *Process) Done() <-chan struct{} { return p.done }

// Run starts Envoy and waits for its end. It returns
//   - nil when Envoy ended after ctx ended or Drain asked for it, also if it had to be killed;
//   - nil when Envoy ended by itself with status 0;
//   - an *ExitError when Envoy ended by itself in any other way;
//   - another error when the bootstrap could not be written or the binary not be started.
//
// When ctx ends Envoy gets SIGTERM at once, and SIGKILL if it still runs after StopTimeout. Drain is the gentle way.
func (p *Process) Run(ctx context.Context) error {
	p.mu.Lock()
	again := p.ran
	p.ran = true
	p.mu.Unlock()
	if again {
		return errors.New("run envoy: it was run before")
	}
	p.err = p.run(ctx)
	close(p.done)
	return p.err
}

func (p *Process) run(ctx context.Context) error {
	var once sync.Once
	markStarted := func() { once.Do(func() { close(p.started) }) }
	defer markStarted()
	select {
	case <-ctx.Done():
		p.to(Stopped)
		return nil
	case <-p.stop:
		p.to(Stopped)
		return nil
	default:
	}
	if p.cfg.Bootstrap != nil {
		if err := writeBootstrap(p.cfg.BootstrapPath, p.cfg.Bootstrap); err != nil {
			p.to(Exited)
			return err
		}
	}
	cmd, ended, err := p.start()
	if err != nil {
		p.to(Exited)
		return fmt.Errorf("start envoy: %w", err)
	}
	p.mu.Lock()
	p.pid = cmd.Process.Pid
	p.mu.Unlock()
	p.to(Running)
	p.cfg.Log.Info("envoy started", slog.Int("pid", cmd.Process.Pid), slog.String("binary", p.cfg.Binary), slog.Any("args", p.cfg.args()))
	markStarted()
	select {
	case err := <-ended:
		p.to(Exited)
		return p.explain(cmd.ProcessState, err)
	case <-ctx.Done():
	case <-p.stop:
	}
	p.terminate(cmd.Process, ended)
	p.to(Stopped)
	p.cfg.Log.Info("envoy stopped", slog.String("how", cmd.ProcessState.String()))
	return nil
}

// start starts the process and returns a channel on which its end is told, once. The goroutine behind it stays on the thread
// that forked: the parent-death signal comes when that thread ends, not when the process does.
func (p *Process) start() (*exec.Cmd, <-chan error, error) {
	cmd := exec.Command(p.cfg.Binary, p.cfg.args()...) //nolint:noctx // it ends as Run says, not by a kill
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(p.cfg.Hidden, name)
	})
	cmd.Stdout = unbuffered(p.cfg.Stdout)
	cmd.Stderr = p.tail
	cmd.SysProcAttr = sysProcAttr()
	cmd.WaitDelay = pipeDelay
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		if p.cfg.Unprivileged {
			err = dropAmbient()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, err
	}
	return cmd, ended, nil
}

// unbuffered keeps a file what it is, so that Envoy writes to it without us between, and makes any other writer one that
// cannot break Envoy's output by failing.
func unbuffered(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		return f
	}
	return steadfast{w}
}

// steadfast swallows failures of a writer: a full disk must not end Envoy's log pipe and with it Envoy.
type steadfast struct{ w io.Writer }

func (s steadfast) Write(b []byte) (int, error) {
	_, _ = s.w.Write(b)
	return len(b), nil
}

// terminate ends a running process and waits until it has ended.
func (p *Process) terminate(proc *os.Process, ended <-chan error) {
	p.cfg.Log.Info("stopping envoy")
	// Signals fail only when the process has ended, which is what they are for.
	_ = proc.Signal(syscall.SIGTERM)
	timer := time.NewTimer(p.cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	p.cfg.Log.Warn("envoy ignores SIGTERM, killing it", slog.Duration("after", p.cfg.StopTimeout))
	_ = proc.Kill()
	<-ended
}

func (p *Process) requestStop() { p.stopOnce.Do(func() { close(p.stop) }) }
