package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWatch changes files in each way that tools do it; after each, somebody who reads them on being told sees what is there.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name ...string) string { return filepath.Join(append([]string{dir}, name...)...) }
	write := func(path, text string) { t.Helper(); do(os.WriteFile(path, []byte(text), 0o600)) }
	for _, version := range []string{"v1", "v2"} { // as Kubernetes mounts a Secret
		do(os.Mkdir(at(version), 0o700))
		write(at(version, "linked"), version)
	}
	do(os.Symlink("v1", at("..data")))
	do(os.Symlink("..data/linked", at("linked")))
	write(at("plain"), "old")
	type content struct{ plain, linked string }
	seen := make(chan content, 100) // more than there are events
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, []string{at("plain"), at("linked")}, func() {
			plain, _ := os.ReadFile(at("plain")) // it may be gone
			linked, _ := os.ReadFile(at("linked"))
			seen <- content{string(plain), string(linked)}
		})
	}()
	<-seen // what was there
	for _, step := range []struct {
		name          string
		change        func()
		plain, linked string
	}{
		{"written in place", func() { write(at("plain"), "new") }, "new", "v1"},
		{"renamed over", func() { write(at("tmp"), "newer"); do(os.Rename(at("tmp"), at("plain"))) }, "newer", "v1"},
		{"written in place after that", func() { write(at("plain"), "newest") }, "newest", "v1"},
		{"another link", func() { do(os.Symlink("v2", at("..tmp"))); do(os.Rename(at("..tmp"), at("..data"))) }, "newest", "v2"},
		{"written where it leads now", func() { write(at("v2", "linked"), "v3") }, "newest", "v3"},
		{"removed", func() { do(os.Remove(at("plain"))) }, "", "v3"},
		{"there again", func() { write(at("plain"), "back") }, "back", "v3"},
	} {
		step.change()
		want, last := content{step.plain, step.linked}, content{}
		for timeout := time.After(30 * time.Second); last != want; {
			select {
			case last = <-seen:
			case <-timeout:
				t.Fatalf("%s: who is told sees %+v, want %+v", step.name, last, want)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
