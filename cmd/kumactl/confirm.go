package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

func newConfirmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep an installation that was made with --confirm-timeout",
		Args:  args(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.decide(cmd.Context(), (*redirect.Manager).Confirm, "the installation stays")
		},
	}
}

func newRollbackCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback",
		Short: "Take an installation that was made with --confirm-timeout back at once",
		Args:  args(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.decide(cmd.Context(), (*redirect.Manager).Rollback, "everything is as it was before the installation")
		},
	}
}

// redirectionTime bounds each change as a whole, so that a lock held by somebody else never hangs a session.
const redirectionTime = time.Minute

// manager has nothing but defaults: it is for what was installed already.
func (a *app) manager(ctx context.Context) (*redirect.Manager, error) {
	return a.process().Manager(ctx, settings.Options{Wait: candidates.DefaultWait}, redirect.Auto)
}

func (a *app) decide(ctx context.Context, do func(*redirect.Manager, context.Context) error, result string) error {
	if err := tp.CheckPrivileges(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, redirectionTime)
	defer cancel()
	m, err := a.manager(ctx)
	if err != nil {
		return err
	}
	if err := do(m, ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, result)
	return err
}

// newGuardCommand is the process that takes an installation back. It says on the file descriptor 3 that it is on watch.
func newGuardCommand(a *app) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "guard ID", Short: "Take an installation back unless it is confirmed in time", Hidden: true,
		Args: args(1, 1, "the id of an installation"),
		RunE: func(cmd *cobra.Command, given []string) error {
			// A closed terminal is what it is there for. SIGTERM, as when the host shuts down, takes the installation back now.
			signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
			silent := app{lookup: a.lookup, stderr: io.Discard}
			m, err := silent.manager(cmd.Context())
			if err != nil {
				return err
			}
			return m.Guard(cmd.Context(), given[0], timeout, func() error {
				ready := os.NewFile(readyFD, "ready")
				_, err := ready.WriteString(onWatch)
				return errors.Join(err, ready.Close())
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "when to take it back")
	return cmd
}

const (
	readyFD = 3
	onWatch = "on watch\n"
)

// startGuard starts it in a session of its own, where the loss of this one does not reach it.
func startGuard(id string, timeout time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	defer func() { _ = ours.Close() }()                                                        // only read
	cmd := exec.Command(self, "transparent-proxy", "guard", id, "--timeout", timeout.String()) //nolint:noctx // it outlives us
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = errors.Join(cmd.Start(), theirs.Close())
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	if said, err := io.ReadAll(ours); err != nil || string(said) != onWatch {
		_ = cmd.Process.Kill() // it has ended, or is of no use
		return errors.Join(errors.New("the guard that would take the installation back does not start"), err, cmd.Wait())
	}
	return cmd.Process.Release()
}

// unconfirmed installs, and waits for the decision.
func (a *app) unconfirmed(ctx context.Context, m *redirect.Manager, cfg tp.Config, timeout time.Duration) (*redirect.Planned, error) {
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	bounded, cancel := context.WithTimeout(ctx, redirectionTime)
	defer cancel()
	began := time.Now()
	done, id, err := m.ApplyUnconfirmed(bounded, cfg, timeout, func(id string) error { return startGuard(id, timeout) })
	if err != nil {
		return nil, err
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NONBLOCK, 0)
	here := ""
	if err == nil {
		defer func() { _ = tty.Close() }() // only read
		here = "press Enter here (n takes it back at once), or "
	}
	if _, err := fmt.Fprintf(a.stdout, "redirection is installed, and taken back at %s unless it is confirmed.\n"+
		"See that this host can still be reached, in a new session; then %srun 'kumactl transparent-proxy confirm'.\n",
		began.Add(timeout).Format(time.TimeOnly), here); err != nil {
		log.Warn("installed, but the terminal is gone", "error", err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		if tty != nil {
			a.answer(bounded, tty, log)
		}
	}()
	kept, err := m.Decision(ctx, id)
	if tty != nil {
		_ = tty.Close() // ends the question
	}
	<-over
	switch {
	case ctx.Err() != nil:
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), redirectionTime)
		defer cancel()
		return nil, errors.Join(errors.New("interrupted: the installation is taken back"), m.Rollback(last))
	case err != nil:
		return nil, err
	case !kept:
		return nil, errors.New("the installation was not confirmed: everything is as it was before")
	}
	return done, nil
}

// answer reads what the terminal says. It uses a manager of its own, which decides by files alone when it confirms.
func (a *app) answer(ctx context.Context, tty io.Reader, log *slog.Logger) {
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return // closed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redirectionTime)
	defer cancel()
	m, err := a.manager(ctx)
	if err == nil {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "n") {
			err = m.Rollback(ctx)
		} else {
			err = m.Confirm(ctx)
		}
	}
	if err != nil && !errors.Is(err, redirect.ErrNotPending) {
		log.Error("the answer has no effect", "error", err)
	}
}
