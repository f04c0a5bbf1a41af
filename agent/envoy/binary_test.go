package envoy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/transcript"
)

func TestFindBinary(t *testing.T) {
	dir, cwd := t.TempDir(), t.TempDir()
	t.Chdir(cwd)
	t.Setenv("PATH", dir)
	_, err := FindBinary("my-envoy")
	self, _ := os.Executable()
	want := "could not find executable binary in any of the following paths: [my-envoy " + filepath.Join(cwd, "envoy") + " " + filepath.Join(filepath.Dir(self), "envoy") + "]"
	if !errors.Is(err, ErrNoBinary) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--binary-path") {
		t.Errorf("got  %v\nwant %s and what to do", err, want)
	}
	for _, step := range []struct{ configured, create, want string }{
		{"my-envoy", filepath.Join(cwd, "envoy"), filepath.Join(cwd, "envoy")},
		{"my-envoy", filepath.Join(dir, "my-envoy"), filepath.Join(dir, "my-envoy")},
		{"./envoy", "", filepath.Join(cwd, "envoy")},
		{filepath.Join(dir, "my-envoy"), "", filepath.Join(dir, "my-envoy")},
	} {
		if step.create != "" {
			if err := os.WriteFile(step.create, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := FindBinary(step.configured); err != nil || got != step.want {
			t.Errorf("%s: got %q, %v, want %q", step.configured, got, err, step.want)
		}
	}
}

func TestVersion(t *testing.T) {
	b, err := Version(t.Context(), fakeBinary)
	want := Build{Full: "0123abc/1.40.2/Clean/RELEASE/BoringSSL", Commit: "0123abc", Version: "1.40.2", Type: "RELEASE", TLS: "BoringSSL"}
	if err != nil || b != want {
		t.Fatalf("got %+v, %v, want %+v", b, err, want)
	}
	for expected, want := range map[string]bool{
		"1.40.2": true, "1.40.0": true, "1.40.3": false, "1.39.0": false, "1.41.0": false, "2.40.0": false, "1.40": false, "x": false, "1.40.0-dev": false,
	} {
		if got := b.Compatible(expected); got != want {
			t.Errorf("compatible with %s: got %v", expected, got)
		}
	}
	if (Build{}).Compatible("1.40.0") {
		t.Error("an unknown version is compatible with nothing")
	}
}

func TestVersionThatCannotBeHad(t *testing.T) {
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "envoy")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	expired, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, tt := range []struct {
		name, path, want string
		ctx              context.Context
	}{
		{"no such file", "/nowhere/envoy", "/nowhere/envoy", t.Context()},
		{"other program", script("echo hello"), "wrong Envoy build format: \"hello\"", t.Context()},
		{"fails", script("echo broken >&2; exit 3"), "exit status 3: broken", t.Context()},
		{"hangs", script("exec sleep 60"), "deadline exceeded", expired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Version(tt.ctx, tt.path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "failed to get Envoy version: ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseBuild(f *testing.F) {
	f.Add("\nenvoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n\n")
	f.Add("envoy version: a/b/c/d")
	f.Fuzz(func(t *testing.T, out string) {
		b, err := parseBuild(out)
		if err == nil && strings.Count(b.Full, "/") != 4 {
			t.Errorf("accepted %q", b.Full)
		}
		b.Compatible(out)
	})
}

func TestTail(t *testing.T) {
	out := transcript.New()
	tl := newTail(out)
	var all strings.Builder
	for i := range 40 {
		all.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i*100) + "\n\n")
	}
	all.WriteString("no newline at the end")
	for piece := range strings.SplitAfterSeq(all.String(), "a") { // lines come in pieces
		tl.Write([]byte(piece))
	}
	if out.String() != all.String() {
		t.Error("what is passed on was changed")
	}
	lines := tl.lines()
	if len(lines) != tailLines || lines[tailLines-1] != "no newline at the end" {
		t.Errorf("got %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	for _, l := range lines {
		if len(l) > tailShown+len("…") {
			t.Errorf("line of %d bytes", len(l))
		}
	}
}

func TestTailHidesKeysOfSeveralLines(t *testing.T) {
	secret := strings.Repeat("QUJD", 16)
	for _, in := range []string{
		"x\n-----BEGIN PRIVATE KEY-----\n" + secret + "\n" + secret[:10] + "\n-----END PRIVATE KEY-----\ny\n",
		"x\n" + secret + "\ny\n", // the beginning is not remembered any more
		"x\ny\n-----BEGIN RSA PRIVATE KEY-----\n" + secret,
	} {
		tl := newTail(transcript.New())
		tl.Write([]byte(in))
		got := strings.Join(tl.lines(), "|")
		if strings.Contains(got, "QUJD") || !strings.Contains(got, "x") || !strings.Contains(got, "y") {
			t.Errorf("got %q", got)
		}
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("a\nb"), []byte("c\n\xff\n"))
	f.Add([]byte("eyJa.b"), []byte(".c -----BEGIN PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tl := newTail(transcript.New())
		tl.Write(a)
		tl.Write(b)
		for _, l := range tl.lines() {
			if len(l) > tailShown+len("…") || strings.Contains(l, "\n") || tokens.MatchString(l) {
				t.Errorf("line %q", l)
			}
		}
	})
}
