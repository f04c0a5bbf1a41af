package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memory.Open(storetest.Registry()) })
}

func BenchmarkUpdateAmong10000(b *testing.B) {
	s := memory.Open(storetest.Registry())
	defer s.Close()
	ops := []store.Op{storetest.Create(storetest.Mesh("m"))}
	for i := range 10_000 {
		ops = append(ops, storetest.Create(storetest.Secret("m", string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), "")))
	}
	if _, err := s.Commit(b.Context(), ops...); err != nil {
		b.Fatal(err)
	}
	data := []string{"1", "2"}
	for i := 0; b.Loop(); i++ {
		if _, err := s.Commit(b.Context(), store.Op{Action: store.Update, Resource: storetest.Secret("m", "kkk", data[i%2])}); err != nil {
			b.Fatal(err)
		}
	}
}
