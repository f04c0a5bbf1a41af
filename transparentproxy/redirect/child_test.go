//go:build linux

package redirect_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// childVariable makes this binary do something instead of testing: "what backend directory point".
const childVariable = "KUMA_REDIRECT_CHILD"

// child returns what this binary is to do, nil when it is to test.
func child() func() int {
	words := strings.Fields(os.Getenv(childVariable))
	if len(words) == 0 {
		return nil
	}
	return func() int {
		if err := runChild(words[0], words[1], words[2], words[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

func runChild(what, backend, dir, point string) error {
	if what == "ports" {
		fmt.Println(redirect.SSHPorts(os.LookupEnv))
		return nil
	}
	at, err := strconv.Atoi(point)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx := context.Background()
	all := candidates.All(ctx, candidates.Config{Log: log, Path: os.Getenv("PATH"), StateDir: dir, Wait: candidates.DefaultWait})
	k := &killer{at: at}
	for i := range all {
		all[i].Backend = deadly{all[i].Backend, k}
	}
	m, err := redirect.New(redirect.Config{Candidates: all, Backend: backend, StateDir: dir, Log: log})
	if err != nil {
		return err
	}
	if what == "remove" {
		_, err = m.Remove(ctx)
	} else {
		_, err = m.Apply(ctx, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
	}
	return err
}

// killer kills this process at the n-th point; 0 is never.
type killer struct{ at, n int }

func (k *killer) point() {
	if k.n++; k.n == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// deadly is a backend with a point before and after every change.
type deadly struct {
	redirect.Backend
	k *killer
}

func (d deadly) Apply(ctx context.Context, p *tp.Plan) error {
	d.k.point()
	defer d.k.point()
	return d.Backend.Apply(ctx, p)
}

func (d deadly) Remove(ctx context.Context) (bool, error) {
	d.k.point()
	defer d.k.point()
	return d.Backend.Remove(ctx)
}
