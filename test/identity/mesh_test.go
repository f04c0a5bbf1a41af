//go:build linux

// Package identity proves what is promised about a workload's identity on whole meshes, with a real Envoy: that its key
// stays in memory, that its renewal is noticed by nobody, and what its end looks like.
package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

const backendURL = "http://backend.svc.mesh.local:8080/"

// shortLived is scene.Mesh with certificates that live for so long.
func shortLived(life string) string {
	return scene.Mesh + "    dpCert: {rotation: {expiration: " + life + "}}\n"
}

// Steps of a test under short names.
var ctx, apply, add, await = scenetest.Context, scenetest.Apply, scenetest.Add, scenetest.Await

// newScene brings up a control plane with these resources; the scene goes when the test ends.
func newScene(t *testing.T, prefix, resources string) *scene.Scene {
	t.Helper()
	s := scenetest.New(t, prefix)
	if err := s.StartControlPlane(ctx(t)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, resources)
	return s
}

// awaitAnswer waits until the backend answers w.
func awaitAnswer(t *testing.T, w *scene.Workload) {
	t.Helper()
	await(t, "an answer of the backend", func(c context.Context) error {
		status, body, err := w.Curl(c, backendURL)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("got %d: %s", status, body)
		}
		return err
	})
}

// awaitLines waits until a process has said text in n lines after its first `from` bytes.
func awaitLines(t *testing.T, p *scene.Process, from, n int, text string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to say %q %d times", p.Name, text, n), func(context.Context) error {
		log := p.Log()[from:]
		if got := strings.Count(log, text); got < n {
			return fmt.Errorf("%d times; its last line: %s", got, log[strings.LastIndexByte(strings.TrimSpace(log), '\n')+1:])
		}
		return nil
	})
}

// issued is what an agent says of each new certificate.
const issued = `msg="workload certificate issued"`

// certificate is what `kuma-dp debug identity` shows.
type certificate struct {
	State, Serial, LastError string
	NotBefore, NotAfter      time.Time
}

// page reads a page of an agent's admin endpoint.
func page(c context.Context, w *scene.Workload, name string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(c context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(c, "unix", filepath.Join(w.WorkDir, "kuma-admin.sock"))
	}}}
	req, err := http.NewRequestWithContext(c, http.MethodGet, "http://agent/"+name, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("page %s: %s: %s", name, resp.Status, body)
	}
	return string(body), err
}

func certificateOf(c context.Context, w *scene.Workload) (out certificate, err error) {
	text, err := page(c, w, "identity")
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(text), &out)
}

// get reads a page from the workload's loopback.
func get(c context.Context, w *scene.Workload, url string) (int, string, error) {
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(c, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// readiness is what the agent tells a probe.
func readiness(c context.Context, w *scene.Workload) (int, string, error) {
	return get(c, w, "http://127.0.0.1:9902/ready")
}

// pidOf returns the only process of the workload's host with this name.
func pidOf(t *testing.T, w *scene.Workload, name string) int {
	t.Helper()
	pids, err := pidsOf(ctx(t), w, name)
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes %s on %s: %v, %v; want one", name, w.Name, pids, err)
	}
	return pids[0]
}

func pidsOf(c context.Context, w *scene.Workload, name string) (pids []int, err error) {
	out, err := w.Host.Command(c, 0, "ip", "netns", "pids", w.Host.Namespace).Output()
	if err != nil {
		return nil, err
	}
	for field := range strings.FieldsSeq(string(out)) {
		comm, err := os.ReadFile("/proc/" + field + "/comm")
		pid, parse := strconv.Atoi(field)
		if errors.Join(err, parse) == nil && strings.TrimSpace(string(comm)) == name {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
