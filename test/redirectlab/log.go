//go:build linux

package redirectlab

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Logger writes to the test's log.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	return NewLog(t).Logger
}

// Log is a logger whose lines a test can wait for.
type Log struct {
	*slog.Logger
	lines chan string
}

// NewLog makes one that writes to the test's log too.
func NewLog(t testing.TB) *Log {
	t.Helper()
	l := &Log{lines: make(chan string, 1000)}
	l.Logger = slog.New(slog.NewTextHandler(logWriter{t, l.lines}, nil))
	return l
}

// Next waits for the next line that holds a text and drops those before it.
func (l *Log) Next(t testing.TB, patience time.Duration, text string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			t.Fatalf("the log does not say %q within %s", text, patience)
		}
	}
}

type logWriter struct {
	t     testing.TB
	lines chan<- string
}

func (l logWriter) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	l.t.Log(line)
	select {
	case l.lines <- line:
	default: // nobody waits for it
	}
	return len(b), nil
}
