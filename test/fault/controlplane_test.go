//go:build linux

package fault

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestControlPlaneFails takes the control plane away in every way that there is, while requests flow. None may fail, and the
// agents must be back by themselves.
func TestControlPlaneFails(t *testing.T) {
	s := newScene(t, "kuma-cpfail")
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)

	t.Run("killed and started twenty times", func(t *testing.T) {
		const times = 20
		load := scenetest.StartLoad(t, web)
		load.AwaitMore(50)
		before := measure(t, one(t, web, "kuma-dp"))
		lines, began := strings.Count(web.Agent.Log(), "\n"), time.Now()
		for i := range times {
			s.ControlPlane.Kill()
			load.AwaitMore(20)
			ready(t, web)
			if err := s.ControlPlane.Start(ctx(t)); err != nil {
				t.Fatal(err)
			}
			// Every fourth time the agent has the time to come back; else it dies as the agent arrives, or before.
			if i%4 == 3 {
				awaitStreams(t, web, 1+(i+1)/4)
			}
		}
		load.Unharmed()
		if rate := float64(strings.Count(web.Agent.Log(), "\n")-lines) / time.Since(began).Seconds(); rate >= 10 {
			t.Errorf("the agent logs %.1f lines per second, want less than 10:\n%s", rate, web.Agent.Log())
		}
		converges(t, s, web)
		after := measure(t, one(t, web, "kuma-dp"))
		// What grew with every cycle would be twenty at the least.
		if after.fds > before.fds+10 || after.threads > before.threads+10 || after.kilobytes > before.kilobytes+16<<10 {
			t.Errorf("the agent grew from %+v to %+v", before, after)
		}
	})

	t.Run("cut off by the network", func(t *testing.T) {
		link := func(state string) {
			t.Helper()
			if out, err := s.ControlPlane.Host.Command(ctx(t), 0, "ip", "link", "set", "eth0", state).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		load := scenetest.StartLoad(t, web)
		link("down")
		apply(t, s, permission("other", "Allow")) // on the control plane's loopback: nobody hears of it yet
		load.AwaitMore(200)
		ready(t, web)
		link("up")
		gateway(t, s)
		load.AwaitMore(50)
		load.Unharmed()
		converges(t, s, web)
	})

	t.Run("stopped by SIGSTOP", func(t *testing.T) {
		load := scenetest.StartLoad(t, web)
		send(t, s.ControlPlane.Process, unix.SIGSTOP)
		load.AwaitMore(200)
		ready(t, web)
		send(t, s.ControlPlane.Process, unix.SIGCONT)
		load.Unharmed()
		converges(t, s, web)
	})

	t.Run("started again without its store", func(t *testing.T) {
		load := scenetest.StartLoad(t, web)
		s.ControlPlane.Kill()
		if err := os.Remove(filepath.Join(filepath.Dir(s.ControlPlane.CAFile()), "kuma-cp.db")); err != nil {
			t.Fatal(err)
		}
		from, began := len(web.Agent.Log()), time.Now()
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		awaitLog(t, web.Agent, from, `reason="authentication failed`)
		load.AwaitMore(200)
		ready(t, web)
		load.Unharmed()
		said := web.Agent.Log()[from:]
		if rate := float64(strings.Count(said, "\n")) / max(1, time.Since(began).Seconds()); rate >= 10 {
			t.Errorf("the agent logs %.1f lines per second, want less than 10:\n%s", rate, said)
		}
		told := 0
		for line := range strings.Lines(said) {
			// Envoy tells it too, of its own stream for health, which it asks for again with growing waits.
			if strings.Contains(line, "component=relay") && strings.Contains(line, "authentication failed") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the relay tells the refusal %d times, want once:\n%s", told, said)
		}
	})

	t.Run("no goroutine is left of all that", func(t *testing.T) {
		// Both agents went through the same, so that a third, fresh one tells what is normal. It needs a token of the new store.
		apply(t, s, mesh+"---\n"+permission("backend", "Allow"))
		fresh := add(t, s, scene.WorkloadConfig{Name: "fresh", Service: "fresh"})
		want, got := goroutines(t, fresh), goroutines(t, web)
		if got > want+10 {
			t.Errorf("%d goroutines, a fresh agent has %d:\n%s", got, want, web.Agent.Log())
		}
		awaitNone(t, web, "envoy")
		select {
		case <-backend.Agent.Done():
			t.Errorf("an agent has ended:\n%s", backend.Agent.Log())
		default:
		}
	})
}

// gateway gives the control plane's host its default route again, which went with the link.
func gateway(t *testing.T, s *scene.Scene) {
	t.Helper()
	// The route may have survived; the error tells nothing else.
	_ = s.ControlPlane.Host.Command(ctx(t), 0, "ip", "route", "add", "default", "via", "10.77.0.1").Run()
}

// TestBurst changes a thousand permissions as fast as the control plane takes them: the last state wins everywhere, and memory
// stays bounded.
func TestBurst(t *testing.T) {
	const changes, workers = 1000, 4
	s := newScene(t, "kuma-burst")
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	client := scene.HTTPClient(s.ControlPlane.Host)
	defer client.CloseIdleConnections()
	put := func(name, action string) error {
		body := fmt.Sprintf(`{"type":"MeshTrafficPermission","mesh":"default","name":%q,"spec":{"targetRef":{"kind":"MeshSubset","tags":{"kuma.io/service":"backend"}},`+
			`"from":[{"targetRef":{"kind":"MeshSubset","tags":{"kuma.io/service":"web"}},"default":{"action":%q}}]}}`, name, action)
		req, err := http.NewRequestWithContext(ctx(t), http.MethodPut, "http://127.0.0.1:5681/meshes/default/meshtrafficpermissions/"+name, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("content-type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("put %s: %s", name, resp.Status)
		}
		return nil
	}
	before := measure(t, s.ControlPlane.Process.PID())
	beforeAgent := measure(t, one(t, web, "kuma-dp"))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range changes / workers {
				// The one that decides flips all the time; the others come and stay.
				name, action := "web-to-backend", []string{"Deny", "Allow"}[i%2]
				if w > 0 {
					name, action = "burst-"+strconv.Itoa(w)+"-"+strconv.Itoa(i%50), "Allow"
				}
				if err := put(name, action); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// Of policies that say the same about the same the first by name wins: "burst-…" goes before "web-to-backend".
	awaitStatus(t, web, backendURL, http.StatusOK)
	if err := put("burst-1-0", "Deny"); err != nil {
		t.Fatal(err)
	}
	after, afterAgent := measure(t, s.ControlPlane.Process.PID()), measure(t, one(t, web, "kuma-dp"))
	const most = 128 << 10
	if grown := after.kilobytes - before.kilobytes; grown > most {
		t.Errorf("the control plane grew by %d kB, from %+v to %+v", grown, before, after)
	}
	if grown := afterAgent.kilobytes - beforeAgent.kilobytes; grown > most/4 {
		t.Errorf("the agent grew by %d kB", grown)
	}
	awaitStatus(t, web, backendURL, http.StatusForbidden)
}
