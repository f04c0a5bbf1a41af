//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane"
)

const smallService = `{"type":"MeshService","mesh":"default","name":%q,"labels":{"kuma.io/origin":"zone"},` +
	`"spec":{"selector":{"dataplaneTags":{"kuma.io/service":%[1]q}},"ports":[{"port":80,"targetPort":80,"appProtocol":"http"}]}}`

// BenchmarkHostname is the time from the PUT of a MeshService, its answer included, until a GET shows its virtual address
// and hostname, beside others in the mesh.
func BenchmarkHostname(b *testing.B) {
	for _, others := range []int{0, 1000, 10_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			p, err := startPlane(b.Context(), b.TempDir(), controlplane.StoreBolt)
			if err != nil {
				b.Fatal(err)
			}
			url := strings.TrimSuffix(p.url, "meshtimeouts/") + "meshservices/"
			for i := range others {
				if err := p.service(b.Context(), url, fmt.Sprint("other-", i)); err != nil {
					b.Fatal(err)
				}
			}
			if others > 0 {
				if err := p.awaitName(b.Context(), url, fmt.Sprint("other-", others-1)); err != nil {
					b.Fatal(err)
				}
			}
			var times []time.Duration
			n := 0
			for b.Loop() {
				name := fmt.Sprint("new-", n)
				n++
				since := time.Now()
				if err := p.service(b.Context(), url, name); err != nil {
					b.Fatal(err)
				}
				if err := p.awaitName(b.Context(), url, name); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(since))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2]), "median-ns")
			b.ReportMetric(float64(times[len(times)/2])/1e6, "median-ms")
			b.ReportMetric(float64(times[len(times)*99/100])/1e6, "p99-ms")
			if err := p.stop(); err != nil {
				b.Error(err)
			}
		})
	}
}

// service writes a MeshService.
func (p *plane) service(ctx context.Context, url, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+name, strings.NewReader(fmt.Sprintf(smallService, name)))
	if err != nil {
		return err
	}
	_, err = p.ask(req)
	return err
}

// awaitName asks until a service has all.
func (p *plane) awaitName(ctx context.Context, url, name string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+name, http.NoBody)
		if err != nil {
			return err
		}
		text, err := p.ask(req)
		if err != nil || bytes.Contains(text, []byte(`"ip"`)) && bytes.Contains(text, []byte(name+".svc.mesh.local")) {
			return err
		}
	}
}

func (p *plane) ask(req *http.Request) ([]byte, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s: %s: %s", req.URL, resp.Status, text)
	}
	return text, err
}
