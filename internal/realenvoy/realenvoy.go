// Package realenvoy finds the Envoy that tests, demo and benchmarks run.
package realenvoy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Find returns $ENVOY, else envoy on PATH, else bin/envoy of the module that the working directory is in.
func Find() (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "envoy")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no Envoy: set ENVOY, put envoy on PATH, or run scripts/fetch-envoy %s", path)
	}
	return path, nil
}

// ForTest is Find for tests: without an Envoy the test fails.
func ForTest(t interface {
	Helper()
	Fatal(args ...any)
},
) string {
	t.Helper()
	path, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no Envoy: set ENVOY or put envoy on PATH; outside of the module there is no bin/envoy")
		}
		dir = parent
	}
	return "", err
}
