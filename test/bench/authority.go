//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// proxies is how many there are in the mesh whose authority is exchanged.
const proxies = 10

// unhindered is how often an agent may start at once before the control plane makes it wait for its certificate.
const unhindered = 9

// issued is what an agent says of each new certificate, begun when it starts.
const (
	issued = `msg="workload certificate issued"`
	begun  = `msg="envoy started"`
)

// identityMesh measures what identity costs agents with their Envoys.
func (b *bench) identityMesh(ctx context.Context) ([]row, error) {
	all := []*scene.Workload{b.web}
	for i := len(all); i < proxies; i++ {
		w, err := b.scene.AddWorkload(ctx, scene.WorkloadConfig{Name: fmt.Sprintf("proxy-%d", i), Service: fmt.Sprintf("service-%d", i%3)})
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	for _, w := range all {
		if err := w.Ready(ctx); err != nil {
			return nil, err
		}
	}
	updates, certificates, err := told(ctx, all)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := b.scene.Kumactl(ctx, nil, "rotate", "authority"); err != nil {
		return nil, err
	}
	took := time.Since(began)
	updatesAfter, certificatesAfter, err := told(ctx, all)
	if err != nil {
		return nil, err
	}
	w, err := b.scene.AddWorkload(ctx, scene.WorkloadConfig{Name: "starter", Service: "starter"})
	if err != nil {
		return nil, err
	}
	var first, after []time.Duration
	for range min(b.starts, unhindered) {
		w.KillAgent()
		since := time.Now()
		if err := w.StartAgent(ctx, scene.WorkloadConfig{}); err != nil {
			return nil, err
		}
		running, err := said(ctx, w, begun)
		if err != nil {
			return nil, err
		}
		done, err := said(ctx, w, issued)
		if err != nil {
			return nil, err
		}
		first, after = append(first, done.Sub(since)), append(after, done.Sub(running))
	}
	return []row{
		{"agent: start of Envoy → its first certificate", "", "30 ms", fmt.Sprintf("%s; from the start of kuma-dp %s", spread(after), spread(first))},
		{
			fmt.Sprintf("exchange of the authority of a mesh, %d of its proxies, from `kumactl rotate authority` to its end", proxies), "", "",
			fmt.Sprintf("%v; %d secrets sent to Envoys, %d certificates", took.Round(time.Millisecond), updatesAfter-updates, certificatesAfter-certificates),
		},
	}, nil
}

// said waits until the agent of a workload has said something, and returns when that was seen.
func said(ctx context.Context, w *scene.Workload, text string) (time.Time, error) {
	for !strings.Contains(w.Agent.Log(), text) {
		select {
		case <-w.Agent.Done():
			return time.Time{}, fmt.Errorf("the agent ended: %s", w.Agent.Log())
		default:
		}
		if err := sleep(ctx, pause); err != nil {
			return time.Time{}, err
		}
	}
	return time.Now(), nil
}

var secretUpdates = regexp.MustCompile(`(?m)^\S*secret\S*update_success: ([0-9]+)$`)

// told counts the secrets that Envoys have taken, and the certificates that their agents have got.
func told(ctx context.Context, all []*scene.Workload) (updates, certificates int, err error) {
	for _, w := range all {
		certificates += strings.Count(w.Agent.Log(), issued)
		text, err := stats(ctx, w)
		if err != nil {
			return 0, 0, err
		}
		found := secretUpdates.FindAllStringSubmatch(text, -1)
		if found == nil {
			return 0, 0, errors.New("Envoy counts no secrets")
		}
		for _, m := range found {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return 0, 0, err
			}
			updates += n
		}
	}
	return updates, certificates, nil
}

// stats reads the statistics of a workload's Envoy that are about secrets.
func stats(ctx context.Context, w *scene.Workload) (string, error) {
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9901/stats?filter=secret", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
