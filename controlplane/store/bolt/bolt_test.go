package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		s := mustOpen(t, filepath.Join(t.TempDir(), "store"))
		s.file.db.NoSync = true // the suite makes thousands of commits; durability has tests of its own
		return s
	})
}

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, storetest.Registry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t *testing.T, s *Store, ops ...store.Op) []*resource.Resource {
	t.Helper()
	out, err := s.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// filled makes a file with a mesh, a secret, a Dataplane and what it owns, and returns what was stored.
func filled(t *testing.T, path string) []*resource.Resource {
	t.Helper()
	s := mustOpen(t, path)
	dp := storetest.Dataplane("m", "a")
	dp.Labels = map[string]string{"x": "y"}
	out := commit(t, s, storetest.Create(storetest.Mesh("m")), storetest.Create(storetest.Secret("m", "s", "value")),
		storetest.Create(dp), store.Op{Action: store.Create, Resource: storetest.Insight("m", "a", "1"), Owner: dp.Key})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "store")
	want := filled(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v, want 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind beside the store: %v", entries)
	}
	s := mustOpen(t, path)
	defer s.Close()
	reg := storetest.Registry()
	for _, w := range want {
		got, err := s.Get(w.Key)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := reg.EncodeStored(w, resource.Key{})
		b, _ := reg.EncodeStored(got, resource.Key{})
		if !bytes.Equal(a, b) {
			t.Errorf("got %s\nwant %s", b, a)
		}
	}
	next := commit(t, s, store.Op{Action: store.Update, Resource: storetest.Secret("m", "s", "2")})[0]
	if next.Version <= want[0].Version {
		t.Errorf("revision %d did not go on after %d", next.Version, want[0].Version)
	}
	// The owner survived.
	commit(t, s, store.Op{Action: store.Delete, Resource: want[2]})
	if _, err := s.Get(want[3].Key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("owned resource after its owner's deletion: %v", err)
	}
}

func TestDurableWithoutClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := New(Config{Path: path, Registry: storetest.Registry(), FlushInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	commit(t, s, storetest.Create(storetest.Mesh("m")), storetest.Create(storetest.Dataplane("m", "a")))
	commit(t, s, storetest.Create(storetest.Insight("m", "a", "1")))
	// What a crash would leave is what is in the file now.
	crashed := func(name string) *Store {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return mustOpen(t, other)
	}
	c := crashed("first")
	if n := len(c.List(resource.KindDataplane, "m")); n != 1 {
		t.Errorf("durable resource: got %d, want 1", n)
	}
	if n := len(c.List(resource.KindDataplaneInsight, "m")); n != 0 {
		t.Errorf("volatile resource: got %d, want 0: it was written at once", n)
	}
	c.Close()
	commit(t, s, storetest.Create(storetest.Secret("m", "s", "")))
	c = crashed("second")
	if n := len(c.List(resource.KindDataplaneInsight, "m")); n != 1 {
		t.Errorf("volatile resource after a durable commit: got %d, want 1", n)
	}
	c.Close()
	asked := storetest.Insight("m", "a", "2")
	commit(t, s, store.Op{Action: store.Update, Resource: asked, Durable: true})
	c = crashed("third")
	got, err := c.Get(asked.Key)
	if err != nil || !reflect.DeepEqual(got.Spec, asked.Spec) {
		t.Errorf("volatile resource that was asked to be durable: got %v, %v", got, err)
	}
	c.Close()
}

func TestFlushInterval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := New(Config{Path: path, Registry: storetest.Registry(), FlushInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	commit(t, s, storetest.Create(storetest.Mesh("m")))
	before, _ := os.ReadFile(path)
	commit(t, s, storetest.Create(storetest.Insight("m", "a", "1")))
	for deadline := time.Now().Add(10 * time.Second); ; {
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the insight was not flushed")
		}
		<-time.After(time.Millisecond)
	}
}

func TestRefusal(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	filled(t, good)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	at := bytes.Index(flipped, []byte("dmFsdWU")) // the secret's data in base64
	if at < 0 {
		t.Fatal("the secret is not in the file")
	}
	for i := at; i >= 0; {
		flipped[i] ^= 1 // every copy: the file may hold older pages
		next := bytes.Index(flipped[i+1:], []byte("dmFsdWU"))
		if next < 0 {
			break
		}
		i += next + 1
	}
	for _, test := range []struct {
		name, want string
		content    []byte
	}{
		{"empty", "is empty", nil},
		{"text", "cannot be read", []byte(strings.Repeat("not a store\n", 2000))},
		{"short", "", []byte("x")},
		{"cut", "", whole[:len(whole)/2]},
		{"half a page", "", whole[:5000]},
		{"zeroes", "", make([]byte, len(whole))},
		{"bit flip", "damaged", flipped},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, storetest.Registry())
			if err == nil {
				s.Close()
				t.Fatal("was opened")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want the path and %q", err, test.want)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, test.content) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		if _, err := Open(dir, storetest.Registry()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown kind", func(t *testing.T) {
		reg := resource.NewRegistry(resource.Core()[:2]...)
		if _, err := Open(good, reg); err == nil || !strings.Contains(err.Error(), `holds kind "DataplaneInsight"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, path)
	defer s.Close()
	// flock is per open file, so a second open of this process stands for another process.
	_, err := New(Config{Path: path, Registry: storetest.Registry(), LockTimeout: 10 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, path)
	commit(t, s, storetest.Create(storetest.Mesh("m")))
	_, w := s.Watch()
	if err := s.file.db.Close(); err != nil { // every later write fails
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), storetest.Create(storetest.Secret("m", "a", ""))); err == nil {
		t.Error("a commit that could not be written was accepted")
	}
	if n := len(s.List(resource.KindSecret, "")); n != 0 {
		t.Errorf("got %d secrets, want 0", n)
	}
	_ = s.Close()
	if events, err := w.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v, %v", events, err)
	}
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, filepath.Join(dir, "store"))
	defer s.Close()
	commit(t, s, storetest.Create(storetest.Mesh("m")), storetest.Create(storetest.Insight("m", "a", "1")))
	var copied bytes.Buffer
	if err := s.Backup(&copied); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "copy")
	if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, path)
	defer c.Close()
	if n := len(c.List(resource.KindDataplaneInsight, "m")); n != 1 {
		t.Errorf("got %d insights, want 1", n)
	}
}

// TestGroupCommit checks that commits that wait together all become durable, whatever their number.
func TestGroupCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, path)
	commit(t, s, storetest.Create(storetest.Mesh("m")))
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := s.Commit(t.Context(), storetest.Create(storetest.Secret("m", fmt.Sprint(i), "x"))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	defer s.Close()
	if n := len(s.List(resource.KindSecret, "m")); n != 50 {
		t.Errorf("got %d, want 50", n)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	reg := storetest.Registry()
	dir := f.TempDir()
	s, err := Open(filepath.Join(dir, "store"), reg)
	if err != nil {
		f.Fatal(err)
	}
	out, err := s.Commit(f.Context(), storetest.Create(storetest.Mesh("m")), storetest.Create(storetest.Secret("m", "a", "1")))
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range out {
		body, err := reg.EncodeStored(r, resource.Key{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	s.Close()
	key := resource.Key{Kind: resource.KindSecret, Mesh: "m", Name: "a"}
	f.Fuzz(func(t *testing.T, body []byte) {
		// Any bytes under a good sum must give an error or a resource of the key, never a panic.
		value := append(bytes.Clone(body), 0, 0, 0, 0)
		n := len(body)
		c := sum(key.Kind, bucketKey(key), body)
		value[n], value[n+1], value[n+2], value[n+3] = byte(c>>24), byte(c>>16), byte(c>>8), byte(c)
		rec, err := decodeRecord(reg, key.Kind, bucketKey(key), value)
		if err == nil && (rec.Resource == nil || rec.Resource.Key != key) {
			t.Errorf("got %v", rec.Key)
		}
	})
}
