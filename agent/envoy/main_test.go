package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/internal/transcript"
)

// agentVar makes this test binary behave like an agent that runs the Envoy configured in the file it names.
const agentVar = "TEST_ENVOY_AGENT"

var fakeBinary string

func TestMain(m *testing.M) {
	if path := os.Getenv(agentVar); path != "" {
		os.Exit(agent(os.Args[1], path))
	}
	dir, err := os.MkdirTemp("", "fakeenvoy")
	if err != nil {
		panic(err)
	}
	fakeBinary = filepath.Join(dir, "fakeenvoy")
	out, err := exec.Command("go", "build", "-o", fakeBinary, "./testdata/fakeenvoy").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build fake envoy: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func agent(binary, bootstrap string) int {
	p, err := New(Config{Binary: binary, BootstrapPath: bootstrap, Admin: "/nowhere"})
	if err == nil {
		err = p.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// fakeConfig is what testdata/fakeenvoy understands.
type fakeConfig struct {
	Admin, Stderr                           string
	Exit                                    *int
	Kill, IgnoreTerm, FailDrain, DieOnDrain bool
	NotReady                                []string
}

// run is a Process that runs.
type run struct {
	*Process
	out, err *transcript.Transcript
	cancel   context.CancelFunc
	result   chan error
}

// startFake runs the fake Envoy until the end of the test.
func startFake(t *testing.T, fake fakeConfig, change func(*Config)) *run {
	t.Helper()
	dir := t.TempDir()
	fake.Admin = filepath.Join(dir, "admin.sock")
	bootstrap, err := json.Marshal(fake)
	if err != nil {
		t.Fatal(err)
	}
	return startProcess(t, Config{
		Binary: fakeBinary, BootstrapPath: filepath.Join(dir, "conf", "bootstrap.yaml"), Bootstrap: bootstrap, Admin: fake.Admin,
	}, change)
}

func startProcess(t *testing.T, cfg Config, change func(*Config)) *run {
	t.Helper()
	r := &run{out: transcript.New(), err: transcript.New(), result: make(chan error, 1)}
	cfg.Stdout, cfg.Stderr = r.out, r.err
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.Process, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() { r.result <- r.Run(ctx) }()
	t.Cleanup(func() {
		r.cancel()
		<-r.Done()
	})
	return r
}

// wait returns what Run returned.
func (r *run) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("envoy did not end; it printed:\n%s%s", r.out, r.err)
		return nil
	}
}

func (r *run) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// failing is a writer that cannot write.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk is full") }
