package api_test

import (
	"context"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// made are keys that all tests share: RSA keys take long to make.
var made = sync.OnceValues(func() (map[string]*resource.Resource, error) {
	s := memory.Open(storetest.Registry())
	defer s.Close()
	ctx := context.Background()
	if _, err := s.Commit(ctx, storetest.Create(storetest.Mesh("default"))); err != nil {
		return nil, err
	}
	if err := token.EnsureDataplaneKey(ctx, s, "default"); err != nil {
		return nil, err
	}
	if err := token.EnsureUserKey(ctx, s); err != nil {
		return nil, err
	}
	return map[string]*resource.Resource{
		"default": s.List(resource.KindSecret, "default")[0],
		"":        s.List(resource.KindGlobalSecret, "")[0],
	}, nil
})

func signingKey(t *testing.T, mesh string) store.Op {
	t.Helper()
	keys, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return store.Op{Action: store.Create, Resource: keys[mesh]}
}
