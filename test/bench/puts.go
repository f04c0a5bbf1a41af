//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane"
)

const (
	// putTime is how long a row of PUTs takes, putNames how many policies are written in turn, and putClients how many
	// clients write them.
	putTime    = 3 * time.Second
	putNames   = 1000
	putClients = 16
	// smallPolicy has its name and a number filled in, so that every PUT is a change.
	smallPolicy = `{"type":"MeshTimeout","mesh":"default","name":%q,"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"%ds"}}]}}`
)

// puts measures the writing of small policies over REST: a control plane in this process, the clients too.
func (b *bench) puts(ctx context.Context) (rows []row, err error) {
	dir, err := os.MkdirTemp(".", ".bench-puts-") // not in /tmp, which may be memory
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, c := range []struct{ store, budget string }{{controlplane.StoreMemory, "2,000/s"}, {controlplane.StoreBolt, "500/s"}} {
		p, err := startPlane(ctx, filepath.Join(dir, c.store), c.store)
		if err != nil {
			return nil, err
		}
		many, err := p.load(ctx, putClients, putTime)
		var one load
		if err == nil {
			one, err = p.load(ctx, 1, putTime)
		}
		if err := errors.Join(err, p.stop()); err != nil {
			return nil, err
		}
		rows = append(rows, row{
			"PUT of a small policy, " + c.store + " store", "", c.budget,
			fmt.Sprintf("%s with %d clients (%s); %s with one (%s)", many.rate(), putClients, spread(many.times), one.rate(), spread(one.times)),
		})
	}
	sync, err := syncTimes(dir)
	if err != nil {
		return nil, err
	}
	return append(rows, row{"the machine: write 4 KiB and fdatasync", "", "", spread(sync)}), nil
}

// plane is a control plane of this process.
type plane struct {
	url    string
	client *http.Client
	cancel context.CancelFunc
	done   chan error
	serial atomic.Int64
}

// startPlane starts a control plane with mesh default.
func startPlane(ctx context.Context, dir, store string) (*plane, error) {
	c := controlplane.DefaultConfig()
	c.General.WorkDir, c.Store.Type = dir, store
	c.APIServer.HTTP.Interface, c.APIServer.HTTPS.Enabled = "127.0.0.1", false
	c.APIServer.HTTP.Port, c.DPServer.Port, c.Diagnostics.ServerPort = 0, 0, 0
	cp, err := controlplane.New(c, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &plane{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: putClients}}, cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- cp.Run(ctx) }()
	select {
	case <-cp.Ready():
		p.url = "http://" + cp.Addresses().HTTP.String() + "/meshes/default/meshtimeouts/"
		return p, nil
	case err := <-p.done:
		cancel()
		return nil, cmp.Or(err, ctx.Err())
	}
}

func (p *plane) stop() error {
	p.client.CloseIdleConnections()
	p.cancel()
	return <-p.done
}

// load is what came of writing for some time.
type load struct {
	times []time.Duration
	took  time.Duration
}

func (l load) rate() string { return fmt.Sprintf("%.0f/s", float64(len(l.times))/l.took.Seconds()) }

// load writes policies with several clients, each of which waits for its answer.
func (p *plane) load(ctx context.Context, clients int, length time.Duration) (load, error) {
	series, errs := make([][]time.Duration, clients), make([]error, clients)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for time.Since(begin) < length && errs[i] == nil {
				since := time.Now()
				errs[i] = p.put(ctx)
				series[i] = append(series[i], time.Since(since))
			}
		})
	}
	wg.Wait()
	return load{slices.Concat(series...), time.Since(begin)}, errors.Join(errs...)
}

// put writes the next policy.
func (p *plane) put(ctx context.Context) (err error) {
	n := p.serial.Add(1)
	name := fmt.Sprintf("policy-%d", n%putNames)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.url+name, strings.NewReader(fmt.Sprintf(smallPolicy, name, n)))
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("PUT %s: %s: %s", name, resp.Status, text)
	}
	return err
}

// syncTimes is how long the disk takes to keep what a store writes.
func syncTimes(dir string) (times []time.Duration, err error) {
	const count, page = 200, 4096
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i := range count {
		since := time.Now()
		if _, err := f.WriteAt(make([]byte, page), int64(i*page)); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		times = append(times, time.Since(since))
	}
	return times, nil
}
