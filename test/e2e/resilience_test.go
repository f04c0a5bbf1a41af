//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// holding is how long a held request waits for its answer: far longer than the timeout of the example.
const holding = time.Second

// moody is an application that answers late, or not at once, or not at all.
type moody struct {
	// arrived is told of every held request, and release answers one.
	arrived, release chan struct{}

	mu       sync.Mutex
	attempts map[string]int
}

// ServeHTTP: /hold waits; /flaky?id=x&fails=n fails n times for an id.
func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/hold":
		select {
		case m.arrived <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		select {
		case <-m.release:
		case <-r.Context().Done():
		}
	case "/flaky":
		fails, err := strconv.Atoi(r.URL.Query().Get("fails"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m.mu.Lock()
		m.attempts[r.URL.Query().Get("id")]++
		n := m.attempts[r.URL.Query().Get("id")]
		m.mu.Unlock()
		if n <= fails {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

func (m *moody) count(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attempts[id]
}

// replaceApp puts a handler in the place of a workload's application.
func replaceApp(t *testing.T, w *scene.Workload, h http.Handler) {
	t.Helper()
	if err := w.App.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := w.Host.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", scene.AppPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// held sends a request that is answered only after holding, and calls during, if any, while it waits.
func (m *moody) held(c context.Context, w *scene.Workload, during func() error) (int, error) {
	type answer struct {
		status int
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		status, _, err := w.Curl(c, backendURL+"hold")
		answered <- answer{status, err}
	}()
	select {
	case a := <-answered:
		return a.status, a.err
	case <-m.arrived:
	}
	var err error
	if during != nil {
		err = during()
	} else {
		select {
		case a := <-answered:
			return a.status, a.err
		case <-time.After(holding):
		}
	}
	select {
	case m.release <- struct{}{}:
	case a := <-answered:
		return a.status, errors.Join(err, a.err)
	}
	a := <-answered
	return a.status, errors.Join(err, a.err)
}

// TestResilience sees what a client gets of late, failing and busy instances under a MeshTimeout, a MeshRetry and a
// MeshCircuitBreaker: the examples of their pages.
func TestResilience(t *testing.T) {
	s := newBareScene(t, "kuma-res")
	apply(t, s, allowAll)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	m := &moody{arrived: make(chan struct{}), release: make(chan struct{}), attempts: map[string]int{}}
	replaceApp(t, backend, m)

	t.Run("a timeout times out", func(t *testing.T) {
		short := guideExamples(t, "meshtimeout")[0]
		awaitHeld := func(want int) {
			t.Helper()
			await(t, fmt.Sprintf("a late answer to be %d", want), func(c context.Context) error {
				got, err := m.held(c, web, nil)
				if err == nil && got != want {
					err = fmt.Errorf("got %d", got)
				}
				return err
			})
		}
		awaitHeld(http.StatusOK)
		apply(t, s, short)
		awaitHeld(http.StatusGatewayTimeout)
		apply(t, s, changed(t, short, "300ms", "30s"))
		awaitHeld(http.StatusOK)
		apply(t, s, short)
		awaitHeld(http.StatusGatewayTimeout)
		remove(t, s, "meshtimeout", "short")
		awaitHeld(http.StatusOK)
	})

	t.Run("what fails is sent again", func(t *testing.T) {
		twice := guideExamples(t, "meshretry")[0]
		id := 0
		awaitAttempts := func(want, attempts int) {
			t.Helper()
			await(t, fmt.Sprintf("%d after %d attempts", want, attempts), func(c context.Context) error {
				id++
				name := strconv.Itoa(id)
				got, _, err := web.Curl(c, backendURL+"flaky?fails=2&id="+name)
				if n := m.count(name); err == nil && (got != want || n != attempts) {
					err = fmt.Errorf("got %d after %d", got, n)
				}
				return err
			})
		}
		awaitAttempts(http.StatusServiceUnavailable, 1)
		apply(t, s, twice)
		awaitAttempts(http.StatusOK, 3)
		apply(t, s, changed(t, twice, "numRetries: 2", "numRetries: 1"))
		awaitAttempts(http.StatusServiceUnavailable, 2)
		remove(t, s, "meshretry", "twice")
		awaitAttempts(http.StatusServiceUnavailable, 1)
	})

	t.Run("too many requests at a time are refused", func(t *testing.T) {
		limit := guideExamples(t, "meshcircuitbreaker")[0]
		awaitSecond := func(want int) {
			t.Helper()
			await(t, fmt.Sprintf("a second request at a time to get %d", want), func(c context.Context) error {
				var second int
				first, err := m.held(c, web, func() (err error) {
					second, _, err = web.Curl(c, backendURL)
					return err
				})
				if err == nil && (first != http.StatusOK || second != want) {
					err = fmt.Errorf("got %d and %d", first, second)
				}
				return err
			})
		}
		awaitSecond(http.StatusOK)
		apply(t, s, limit)
		awaitSecond(http.StatusServiceUnavailable)
		apply(t, s, changed(t, limit, "maxRequests: 1", "maxRequests: 2"))
		awaitSecond(http.StatusOK)
		apply(t, s, limit)
		awaitSecond(http.StatusServiceUnavailable)
		remove(t, s, "meshcircuitbreaker", "one-at-a-time")
		awaitSecond(http.StatusOK)
	})

	t.Run("an instance that fails is ejected", func(t *testing.T) {
		eject := guideExamples(t, "meshcircuitbreaker")[1]
		bad := add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
		var broken atomic.Bool
		broken.Store(true)
		replaceApp(t, bad, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if broken.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_ = json.NewEncoder(w).Encode(scene.Seen{Instance: "backend-2"}) // an error is the client's going away
		}))
		someFail(t, web, backendURL)
		apply(t, s, eject)
		awaitStatus(t, web, backendURL, http.StatusOK)
		// It is left out although it is well again, until the policy says otherwise.
		broken.Store(false)
		if _, body, err := web.Curl(ctx(t), backendURL); err != nil || body != "" {
			t.Errorf("the ejected instance answers %s: %v", body, err)
		}
		apply(t, s, changed(t, eject, "baseEjectionTime: 1m", "baseEjectionTime: 50ms"))
		await(t, "the ejected instance to answer", func(c context.Context) error {
			_, body, err := web.Curl(c, backendURL)
			if err == nil && body == "" {
				err = errors.New("the other one answers")
			}
			return err
		})
		broken.Store(true)
		remove(t, s, "meshcircuitbreaker", "eject")
		someFail(t, web, backendURL)
	})
}
