package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// versionTimeout bounds asking a binary for its version; one that does not answer is no Envoy.
const versionTimeout = 10 * time.Second

// versionOutput bounds what is read of the answer.
const versionOutput = 1 << 16

// ErrNoBinary means that FindBinary found nothing to run.
var ErrNoBinary = errors.New("could not find executable binary in any of the following paths")

// FindBinary returns the absolute path of Envoy: configured, which is a path or a name to look up in PATH; else the file
// envoy in the working directory; else the one beside this program (contract agent.md §1.7). The error wraps ErrNoBinary.
func FindBinary(configured string) (string, error) {
	candidates := []string{configured}
	if dir, err := os.Getwd(); err == nil {
		candidates = append(candidates, filepath.Join(dir, "envoy"))
	}
	if self, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(self), "envoy"))
	}
	for _, c := range candidates {
		// A name found in the working directory by way of PATH is an error here, but the next candidate finds it.
		if path, err := exec.LookPath(c); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("failed to get Envoy version: %w: %v: install Envoy 1.32 or later in one of them, "+
		"or say where it is with --binary-path or KUMA_DATAPLANE_RUNTIME_BINARY_PATH", ErrNoBinary, candidates)
}

// Build is what an Envoy binary says about itself.
type Build struct {
	Full     string // all of it, as the control plane wants to know it
	Commit   string
	Version  string // such as 1.40.0
	Modified bool   // made from sources that are not those of Commit
	Type     string // RELEASE or DEBUG
	TLS      string // the TLS library
}

// Version asks the binary at path what it is (contract agent.md §2.6).
func Version(ctx context.Context, path string) (Build, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = pipeDelay
	out := &bounded{left: versionOutput}
	errOut := newTail(&bounded{})
	cmd.Stdout, cmd.Stderr = out, errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return Build{}, fmt.Errorf("failed to get Envoy version: run %s --version: %w: %s", path, err, strings.Join(errOut.lines(), " | "))
	}
	b, err := parseBuild(out.buf.String())
	if err != nil {
		return Build{}, fmt.Errorf("failed to get Envoy version: %s: %w", path, err)
	}
	return b, nil
}

// parseBuild reads the output of envoy --version.
func parseBuild(out string) (Build, error) {
	_, after, found := strings.Cut(out, "version:")
	full := strings.TrimSpace(after)
	parts := strings.Split(full, "/")
	if !found || len(parts) != 5 || strings.ContainsAny(full, " \t\r\n") {
		return Build{}, fmt.Errorf("wrong Envoy build format: %.200q", strings.TrimSpace(out))
	}
	return Build{
		Full: full, Commit: parts[0], Version: parts[1], Modified: parts[2] != "Clean", Type: parts[3], TLS: parts[4],
	}, nil
}

// Compatible says whether the version is expected or a later patch of the same minor version. It is false when either
// cannot be read.
func (b Build) Compatible(expected string) bool {
	if b.Version == expected {
		return true
	}
	got, ok := release(b.Version)
	want, ok2 := release(expected)
	return ok && ok2 && got[0] == want[0] && got[1] == want[1] && got[2] >= want[2]
}

// release reads the three numbers of a version that is no pre-release; what was added in building it does not count.
func release(version string) (n [3]uint64, ok bool) {
	version, _, _ = strings.Cut(version, "+")
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return n, false
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return n, false
		}
		n[i] = v
	}
	return n, true
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	buf  bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	return len(p), nil
}
