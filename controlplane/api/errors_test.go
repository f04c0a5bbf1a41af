package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/internal/transcript"
	"github.com/kuma-dp/kuma-dp/resource"
)

// refusing is a store whose commits fail.
type refusing struct {
	store.Store
	err error
}

func (r refusing) Commit(context.Context, ...store.Op) ([]*resource.Resource, error) {
	return nil, fmt.Errorf("commit: %w", r.err)
}

// TestStoreErrors has the rows of contract controlplane.md §2.2 that come from the store.
func TestStoreErrors(t *testing.T) {
	for _, test := range []struct {
		err                   error
		status                int
		title, detail, absent string
	}{
		{store.ErrConflict, 409, "Conflict", "was changed in the meantime", ""},
		{store.ErrExists, 409, "Conflict", "already exists", ""},
		{store.ErrNoMesh, 400, "Could not process a resource", "Mesh is not found", ""},
		{store.ErrClosed, 503, "Service unavailable", "control plane is stopping", ""},
		{fmt.Errorf("disk /dev/sda is on fire"), 500, "Could not process a resource", "Internal Server Error", "fire"},
	} {
		g := start(t, func(c *api.Config) { c.Store = refusing{c.Store, test.err} })
		a := g.do("PUT", "/meshes/default/meshtimeouts/x", timeout)
		if a.status != test.status || !strings.Contains(a.body, fmt.Sprintf(`"title": %q`, test.title)) || !strings.Contains(a.body, test.detail) ||
			test.absent != "" && strings.Contains(a.body, test.absent) {
			t.Errorf("%v: got %d %s", test.err, a.status, a.body)
		}
	}
}

// TestSecretsStayOutOfLogs: neither what is stored nor tokens are logged, also when something fails (demands §3.3,
// assertion 33).
func TestSecretsStayOutOfLogs(t *testing.T) {
	log := transcript.New()
	quiet := func(c *api.Config) {
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	g := start(t, quiet)
	token := g.do("POST", "/tokens/user", `{"name":"a","validFor":"1h"}`).body
	g.do("GET", "/meshes", "", "Authorization", "Bearer "+token, "X-Forwarded-For", "192.0.2.1")
	g.do("GET", "/meshes", "", "Authorization", "Bearer "+token[:40], "X-Forwarded-For", "192.0.2.1")
	broken := start(t, quiet, func(c *api.Config) { c.Store = refusing{c.Store, fmt.Errorf("disk full")} })
	broken.do("PUT", "/meshes/default/secrets/s", `{"type":"Secret","mesh":"default","name":"s","data":"aHVudGVyMg=="}`)
	text := log.String()
	if !strings.Contains(text, "disk full") {
		t.Errorf("the failure is not logged: %s", text)
	}
	for _, secret := range []string{"eyJ", "hunter2", "aHVudGVyMg"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is logged: %s", secret, text)
		}
	}
}
