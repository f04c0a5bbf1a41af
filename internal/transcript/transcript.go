// Package transcript collects what a process prints, for tests.
package transcript

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds what a test waits for; it is no measurement.
const patience = 30 * time.Second

// Transcript is a writer that tests wait at for a piece of text. It is safe for concurrent use.
type Transcript struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

// New returns an empty transcript.
func New() *Transcript { return &Transcript{changed: make(chan struct{})} }

// Write adds to it and never fails.
func (o *Transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(b), nil
}

// String returns all that was written.
func (o *Transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await returns when want has been written, and ends the test when that takes too long.
func (o *Transcript) Await(t testing.TB, want string) {
	t.Helper()
	limit := time.After(patience)
	for {
		o.mu.Lock()
		got, changed := o.buf.String(), o.changed
		o.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%q was not printed, only:\n%s", want, got)
		}
	}
}
