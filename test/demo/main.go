//go:build linux

// Command demo brings up a mesh of two services on one machine, proves it with one request, and stays up until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

const (
	prefix       = "kuma-demo"
	startTimeout = 90 * time.Second
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "exit after the proof")
	logs := flags.Bool("logs", false, "show what the processes print")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d := demo{out: stdout, check: *check}
	if *logs {
		d.logs = stderr
	}
	if err := d.run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	if ctx.Err() != nil && *check {
		fmt.Fprintln(stderr, "demo: interrupted before the proof was complete")
		return 1
	}
	return 0
}

type demo struct {
	out, logs io.Writer
	check     bool
	scene     *scene.Scene
}

// run brings everything up, proves it, and takes it down again however it went.
func (d *demo) run(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(self)
	envoy, err := realenvoy.Find()
	if err != nil {
		return err
	}
	d.scene, err = scene.New(scene.Config{Prefix: prefix, Bin: bin, Envoy: envoy, Logs: d.logs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.scene.Close()) }()
	upCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	web, err := d.up(upCtx)
	if err != nil {
		return err
	}
	if err := errors.Join(d.prove(upCtx, web), d.scene.Refused()); err != nil {
		return err
	}
	if d.check {
		fmt.Fprintln(d.out, "\nproved; taking everything down again")
		return nil
	}
	d.suggest()
	<-ctx.Done()
	fmt.Fprintln(d.out, "\ntaking everything down again")
	return nil
}

// up starts the control plane and the workloads and returns the client.
func (d *demo) up(ctx context.Context) (*scene.Workload, error) {
	since := time.Now()
	if err := d.scene.StartControlPlane(ctx); err != nil {
		return nil, err
	}
	d.step("control plane", "%s on host %s, ready after %s", "kuma-cp", d.scene.ControlPlane.Host.Addr, age(since))
	if err := d.scene.Apply(ctx, scene.Mesh+"---\n"+scene.Permission); err != nil {
		return nil, err
	}
	d.step("mesh", "strict mTLS, services from Dataplanes, only web may call backend")
	var web *scene.Workload
	for _, w := range []scene.WorkloadConfig{
		{Name: "backend-1", Service: "backend"}, {Name: "backend-2", Service: "backend"}, {Name: "web", Service: "web"},
	} {
		since := time.Now()
		workload, err := d.scene.AddWorkload(ctx, w)
		if err != nil {
			return nil, err
		}
		d.step("workload", "%-9s on host %s: redirected, agent and Envoy ready after %s", w.Name, workload.Host.Addr, age(since))
		web = workload
	}
	return web, nil
}

func age(since time.Time) time.Duration { return time.Since(since).Round(time.Millisecond) }

func (d *demo) step(title, format string, args ...any) {
	fmt.Fprintf(d.out, "%-14s %s\n", title, fmt.Sprintf(format, args...))
}
