package envoy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultDrainTime   = 30 * time.Second
	DefaultStopTimeout = 5 * time.Second
	DefaultLogLevel    = "info"
)

// Config says how Envoy is run.
type Config struct {
	// Binary is the executable, best as FindBinary returned it. Required.
	Binary string
	// BootstrapPath is the file Envoy reads its configuration from. Required.
	BootstrapPath string
	// Bootstrap, when not nil, is written to BootstrapPath before Envoy starts, readable by the owner only. Else the file has
	// to be there.
	Bootstrap []byte
	// DrainTime is how long Drain leaves clients to go elsewhere; Envoy is told it too, in whole seconds. Default 30 s.
	DrainTime time.Duration
	// Concurrency is the number of worker threads. 0 means as many as there are CPUs for the process.
	Concurrency int
	// LogLevel is Envoy's, such as info or debug. Default info.
	LogLevel string
	// ComponentLogLevel sets levels of single components, such as upstream:debug,http:trace. Default: none.
	ComponentLogLevel string
	// Admin is where the bootstrap puts Envoy's admin endpoint: host:port, or the path of a unix socket. Required.
	Admin string
	// StopTimeout is how long Envoy may take to end after SIGTERM before it is killed. Default 5 s.
	StopTimeout time.Duration
	// Hidden are variables of the environment that Envoy does not get.
	Hidden []string
	// Unprivileged keeps from Envoy the capabilities by which this process changes redirection.
	Unprivileged bool
	// Stdout and Stderr take what Envoy prints, unchanged. Default: those of this process.
	Stdout, Stderr io.Writer
	// Log takes the changes of state. Default: none.
	Log *slog.Logger
}

func (c *Config) setDefaults() {
	if c.DrainTime == 0 {
		c.DrainTime = DefaultDrainTime
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	if c.LogLevel == "" {
		c.LogLevel = DefaultLogLevel
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Binary == "" {
		errs = append(errs, errors.New("Binary: must not be empty"))
	}
	if c.BootstrapPath == "" {
		errs = append(errs, errors.New("BootstrapPath: must not be empty"))
	}
	if c.DrainTime < 0 {
		errs = append(errs, fmt.Errorf("DrainTime: %s must not be negative", c.DrainTime))
	}
	if c.StopTimeout < 0 {
		errs = append(errs, fmt.Errorf("StopTimeout: %s must not be negative", c.StopTimeout))
	}
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("Concurrency: %d must not be negative", c.Concurrency))
	}
	if _, _, err := parseAdmin(c.Admin); err != nil {
		errs = append(errs, fmt.Errorf("Admin: %w", err))
	}
	return errors.Join(errs...)
}

// parseAdmin tells a unix socket from host:port.
func parseAdmin(admin string) (network, addr string, err error) {
	if path := strings.TrimPrefix(admin, "unix:"); strings.HasPrefix(path, "/") {
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		return "", "", fmt.Errorf("%q is neither host:port nor the absolute path of a unix socket", admin)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q: port must be a number from 1 to 65535", admin)
	}
	// Envoy may listen on all addresses; we are on the same host.
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// args are Envoy's arguments, in the order of contract agent.md §3.1.
func (c *Config) args() []string {
	args := []string{
		"--config-path", c.BootstrapPath,
		"--drain-time-s", strconv.FormatInt(int64(c.DrainTime/time.Second), 10),
		// Connections are told to go from the first moment on, not with a probability that grows.
		"--drain-strategy", "immediate",
		"--disable-hot-restart",
		"--log-level", c.LogLevel,
	}
	if c.ComponentLogLevel != "" {
		args = append(args, "--component-log-level", c.ComponentLogLevel)
	}
	switch {
	case c.Concurrency > 0:
		args = append(args, "--concurrency", strconv.Itoa(c.Concurrency))
	case runtime.GOOS == "linux":
		args = append(args, "--cpuset-threads")
	}
	return args
}

// writeBootstrap puts a new file in place of whatever is at path. A link planted there is replaced, never followed.
func writeBootstrap(path string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write envoy bootstrap: %w", err)
		}
	}()
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the file is 0600, the folder need not be ours alone
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first failure is the one to report
	}
	return err
}
