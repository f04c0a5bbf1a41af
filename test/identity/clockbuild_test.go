//go:build linux

package identity

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shiftedClock is a further file of package time. It does what testdata/ahead.c does.
const shiftedClock = `package time

import (
	"syscall"
	"unsafe"
)

var shift = func() *int64 {
	path, ok := syscall.Getenv("CLOCK_AHEAD_FILE")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		var b []byte
		if b, err = syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED); err == nil {
			err = syscall.Close(fd)
			return (*int64)(unsafe.Pointer(&b[0]))
		}
	}
	panic(path + ": " + err.Error())
}()
`

// shifted is a folder of binaries in which kuma-dp's clock can be set, and what does that to an Envoy.
type shifted struct{ dir, library string }

// buildShifted makes them. Nothing moves the clock of a program of Go from without: it asks neither the C library nor, mostly,
// the kernel, and namespaces do not shift the time of day. So kuma-dp is built with a standard library whose time.Now adds to
// what the machine says; all else is as in the product.
func buildShifted(t *testing.T) shifted {
	t.Helper()
	dir := t.TempDir()
	run := func(env []string, name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), env...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stderr.String())
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	source := filepath.Join(run(nil, "go", "env", "GOROOT"), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const before = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(text), before, before+"\tsec += *shift\n", 1)
	if changed == string(text) {
		t.Fatalf("time.Now of %s does not begin as it did: change this test", source)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(source, "time.go"):  write("time.go", []byte(changed)),
		filepath.Join(source, "shift.go"): write("shift.go", []byte(shiftedClock)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	run([]string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-tags", "grpcnotrace", "-overlay", write("overlay.json", overlay),
		"-o", filepath.Join(dir, "kuma-dp"), "../../cmd/kuma-dp")
	for _, name := range []string{"kuma-cp", "kumactl"} {
		path, err := filepath.Abs(filepath.Join("../../bin", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	library := filepath.Join(dir, "ahead.so")
	run(nil, "gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, "testdata/ahead.c")
	return shifted{dir, library}
}

// hostClock is the clock of an agent and its Envoy.
type hostClock struct{ path, library string }

// clock makes one in a folder that every user may enter.
func (s shifted) clock(t *testing.T, dir, name string, ahead time.Duration) hostClock {
	t.Helper()
	c := hostClock{filepath.Join(dir, name+".clock"), filepath.Join(dir, "ahead.so")}
	text, err := os.ReadFile(s.library)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.library, text, 0o644); err != nil {
		t.Fatal(err)
	}
	c.set(t, ahead)
	return c
}

// set moves the clock, also under programs that run.
func (c hostClock) set(t *testing.T, ahead time.Duration) {
	t.Helper()
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// One write of a word: nobody sees half of it.
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(ahead/time.Second))), 0); err != nil {
		t.Fatal(err)
	}
}

// env is what a kuma-dp is started with. The library is for its Envoy; a program of Go loads none.
func (c hostClock) env() []string {
	return []string{"CLOCK_AHEAD_FILE=" + c.path, "LD_PRELOAD=" + c.library}
}
