package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/internal/group"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// redirection is that of the host for as long as the proxy runs.
type redirection struct {
	m   *redirect.Manager
	cfg tp.Config
	// deadline bounds installing and removing, so that a lock held by somebody else never hangs a start or an end.
	deadline time.Duration
	log      *slog.Logger
}

// newRedirection reads what to redirect and checks that this process can. Nothing is changed yet.
func newRedirection(ctx context.Context, cfg agent.Config, in io.Reader, log *slog.Logger) (*redirection, error) {
	rt := cfg.DataplaneRuntime
	if rt.ResourcePath == "-" && slices.Contains(rt.TransparentProxyConfig, "-") {
		return nil, errors.Join(errors.New("--dataplane-file and --transparent-proxy-config cannot both be read from standard input"), agent.ErrConfig)
	}
	log = log.With("component", "redirection")
	s, err := settings.Load(settings.Sources{Files: rt.TransparentProxyConfig, ReadFile: os.ReadFile, Stdin: in})
	if err == nil && s.Options.DryRun {
		err = errors.New("dryRun is of 'kumactl install transparent-proxy --dry-run --config FILE'; leave it out")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--transparent-proxy-config: %w", err), agent.ErrConfig)
	}
	for _, w := range s.Warnings {
		log.Warn("not everything that was asked for has an effect", "reason", w)
	}
	c := s.Config
	host, err := tp.Detect(c)
	if err != nil {
		return nil, errors.Join(err, agent.ErrConfig)
	}
	if err := allowed(host.UID); err != nil {
		return nil, errors.Join(err, agent.ErrConfig)
	}
	if d := cfg.DNS; c.DNS.On() && (!d.Enabled || d.Port != uint32(c.DNS.Port)) {
		return nil, errors.Join(fmt.Errorf("DNS queries would be redirected to port %d, where this kuma-dp does not answer: "+
			"set redirect.dns.port in --transparent-proxy-config to %d, or --dns-enabled and --dns-proxy-port", c.DNS.Port, d.Port), agent.ErrConfig)
	}
	added, redirected := redirect.ExcludeInbound(&c, redirect.SSHPorts(os.LookupEnv))
	for _, p := range added {
		log.Info("the SSH session in which this runs stays out of redirection", "port", p)
	}
	for _, p := range redirected {
		log.Warn("the port of this SSH session is redirected because it is among the only ones to redirect", "port", p)
	}
	dir, shared := redirect.StateDir()
	if !shared {
		log.Warn("kumactl does not know of this redirection, and uninstalling it will be repaired: make the directory for this user",
			"directory", redirect.DefaultStateDir, "how", "RuntimeDirectory=kuma-tproxy in its unit, or install -d -o USER -m 0700 "+redirect.DefaultStateDir)
	}
	m, err := candidates.NewManager(ctx, s.Options, redirect.Config{Backend: rt.TransparentProxyBackend, StateDir: dir, Log: log}, os.Getenv("PATH"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--transparent-proxy: %w", err), agent.ErrConfig)
	}
	return &redirection{m, c, s.Options.Deadline(), log}, nil
}

// allowed checks that this process may redirect, and that what it and Envoy send is left alone.
func allowed(uid uint32) error {
	how := fmt.Sprintf("run it as that user with the capabilities CAP_NET_ADMIN and CAP_NET_RAW, which Envoy does not get "+
		"(packaging/systemd/kuma-dp-tproxy@.service; by hand: setpriv --reuid %d --regid %[1]d --clear-groups "+
		"--inh-caps +net_admin,+net_raw --ambient-caps +net_admin,+net_raw kuma-dp run …)", uid)
	if me := os.Geteuid(); me != int(uid) {
		return fmt.Errorf("--transparent-proxy: kuma-dp and Envoy would run as uid %d, but redirection leaves only the traffic of uid %d alone, "+
			"so that theirs would come back to them: %s", me, uid, how)
	}
	if err := tp.CheckPrivileges(); err != nil {
		return fmt.Errorf("--transparent-proxy: %w: %s", err, how)
	}
	return nil
}

// around redirects, runs the proxy, and takes redirection out again. What a killed kuma-dp left is replaced at the start.
func (r *redirection) around(ctx context.Context, run func(context.Context) error) (err error) {
	bounded, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	done, err := r.m.Apply(bounded, r.cfg)
	if err != nil {
		return err
	}
	for _, w := range done.Plan.Warnings {
		r.log.Warn("redirection is limited", "reason", w)
	}
	r.log.Info("traffic of this host is redirected", "backend", done.Backend)
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.deadline)
		defer cancel()
		removed, rerr := r.m.RemoveInstallation(last, done.ID)
		if rerr != nil {
			rerr = fmt.Errorf("%w; run 'kumactl uninstall transparent-proxy'", rerr)
		} else if removed {
			r.log.Info("traffic of this host is no longer redirected")
		}
		err = errors.Join(err, rerr)
	}()
	// The proxy is stopped first.
	return group.Run(ctx,
		group.Member{Name: "redirection", Run: r.watch},
		group.Member{Name: "agent", Run: run})
}

// watch keeps redirection as it is. That it cannot is no reason to end the proxy.
func (r *redirection) watch(ctx context.Context) error {
	switch err := r.m.Watch(ctx); {
	case errors.Is(err, redirect.ErrUninstalled):
		r.log.Warn("redirection was uninstalled by somebody; the proxy goes on without it")
	case err != nil:
		r.log.Error("redirection is not looked after any more", "error", err)
	}
	<-ctx.Done()
	return nil
}
