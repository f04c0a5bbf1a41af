//go:build linux

// Package scene brings up a whole mesh on one machine: a control plane and workloads with their agents, each in a network
// namespace of its own like a host. The demo, the end-to-end tests and the benchmarks all stand on it.
package scene

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// ProxyUID is the user that agents and Envoys run as; redirection leaves its traffic alone.
const ProxyUID = 5678

// Config says where things come from.
type Config struct {
	// Prefix names the namespaces: <prefix>-cp, <prefix>-web. Only one live scene may have it.
	Prefix string
	// Bin is the folder with kuma-dp, kuma-cp and kumactl.
	Bin string
	// Envoy is the path of the Envoy binary.
	Envoy string
	// Logs receives what the processes print, each line after the name of its host; nil drops it.
	Logs io.Writer
}

// Scene is a running mesh. Its methods are not for concurrent use, but for Close.
type Scene struct {
	cfg Config
	lab *netlab.Lab
	dir string
	// bin holds copies that every user may run, wherever the checkout lies.
	bin string

	ControlPlane *ControlPlane
	expected     []expectation

	mu        sync.Mutex
	processes []*Process
	closers   []io.Closer
	closed    bool
}

// New makes an empty scene; the caller must Close it, also after an error of any other method.
func New(cfg Config) (*Scene, error) {
	lab, err := netlab.New(cfg.Prefix)
	if err != nil {
		return nil, err
	}
	s := &Scene{cfg: cfg, lab: lab}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// stateRoot holds a folder for each live scene. Its name follows from the prefix, so that the next run finds and removes
// what a killed one left.
func stateRoot(prefix string) string { return filepath.Join(os.TempDir(), "kuma-scene-"+prefix) }

func (s *Scene) prepare() error {
	s.dir = stateRoot(s.cfg.Prefix)
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	// Mkdir, not MkdirAll: a folder or link that someone planted in between is an error.
	if err := os.Mkdir(s.dir, 0o711); err != nil {
		return fmt.Errorf("make folder of the scene: %w", err)
	}
	s.bin = filepath.Join(s.dir, "bin")
	if err := os.Mkdir(s.bin, 0o755); err != nil {
		return fmt.Errorf("make folder of the scene: %w", err)
	}
	for _, name := range []string{"kuma-dp", "kuma-cp", "kumactl"} {
		if err := provide(filepath.Join(s.cfg.Bin, name), filepath.Join(s.bin, name)); err != nil {
			return err
		}
	}
	return provide(s.cfg.Envoy, filepath.Join(s.bin, "envoy"))
}

// provide makes the file from available as to: linked where the file system allows it, else copied.
func provide(from, to string) error {
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return fmt.Errorf("find binary (run `make build` first): %w", err)
	}
	if os.Link(real, to) == nil {
		return nil
	}
	in, err := os.Open(real)
	if err != nil {
		return fmt.Errorf("copy binary: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copy binary: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// Dir is a folder for the scene's files, removed by Close.
func (s *Scene) Dir() string { return s.dir }

// Lab gives access to the network.
func (s *Scene) Lab() *netlab.Lab { return s.lab }

// Path returns the path of a binary that every user of the scene may run.
func (s *Scene) Path(binary string) string { return filepath.Join(s.bin, binary) }

// Kumactl runs kumactl on the control plane's host, where loopback makes it an administrator, and returns what it prints.
func (s *Scene) Kumactl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := s.ControlPlane.Host.Command(ctx, 0, s.Path("kumactl"), args...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	cmd.Stdin = stdin
	return output(cmd)
}

// Close stops all processes, agents first, and removes everything that the scene made. It may be called again.
func (s *Scene) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	processes, closers := s.processes, s.closers
	s.mu.Unlock()
	var errs []error
	for i := len(processes) - 1; i >= 0; i-- {
		processes[i].kill()
	}
	for i := len(closers) - 1; i >= 0; i-- {
		errs = append(errs, closers[i].Close())
	}
	errs = append(errs, s.lab.Close(), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

func (s *Scene) onClose(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, c)
}
