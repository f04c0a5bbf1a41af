//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestWhoIsLetIn asks as a client of the mesh, as another one and as a stranger under a MeshTrafficPermission and a
// MeshTLS: the examples of their pages.
func TestWhoIsLetIn(t *testing.T) {
	s := newBareScene(t, "kuma-who")
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	other := add(t, s, scene.WorkloadConfig{Name: "other", Service: "other"})
	stranger, err := s.Lab().AddHost("stranger")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("permission", func(t *testing.T) {
		allow := guideExamples(t, "meshtrafficpermission")[0]
		answers := func(toWeb, toOther int) {
			t.Helper()
			awaitStatus(t, web, backendURL, toWeb)
			awaitStatus(t, other, backendURL, toOther)
		}
		answers(http.StatusForbidden, http.StatusForbidden)
		apply(t, s, allow)
		answers(http.StatusOK, http.StatusForbidden)
		apply(t, s, changed(t, allow, "kuma.io/service: web", "kuma.io/service: other"))
		answers(http.StatusForbidden, http.StatusOK)
		apply(t, s, changed(t, allow, "action: Allow", "action: Deny"))
		answers(http.StatusForbidden, http.StatusForbidden)
		apply(t, s, changed(t, allow, "action: Allow", "action: AllowWithShadowDeny"))
		answers(http.StatusOK, http.StatusForbidden)
		remove(t, s, "meshtrafficpermission", "web-calls-backend")
		answers(http.StatusForbidden, http.StatusForbidden)
	})

	t.Run("plaintext", func(t *testing.T) {
		apply(t, s, allowAll)
		moves := guideExamples(t, "meshtls")[0]
		inClear := fmt.Sprintf("http://%s:%d/", backend.Host.Addr, scene.AppPort)
		answersStranger := func(want bool) {
			t.Helper()
			await(t, fmt.Sprintf("a stranger to be answered: %t", want), func(context.Context) error {
				if status, body := fetch(t, stranger, inClear, nil); (status == http.StatusOK) != want {
					return fmt.Errorf("got %d %s", status, body)
				}
				return nil
			})
			// The mesh speaks mTLS all the time.
			await(t, "web to be answered over mTLS", func(c context.Context) error {
				status, body, err := web.Curl(c, backendURL)
				if err == nil && (status != http.StatusOK || !strings.Contains(body, "URI=spiffe://default/web")) {
					err = errors.New(body)
				}
				return err
			})
		}
		answersStranger(false)
		apply(t, s, moves)
		answersStranger(true)
		apply(t, s, changed(t, moves, "mode: Permissive", "mode: Strict"))
		answersStranger(false)
		apply(t, s, moves)
		answersStranger(true)
		remove(t, s, "meshtls", "backend-moves")
		answersStranger(false)
	})
}
