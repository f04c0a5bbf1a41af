package envoy

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// How much of Envoy's last output is kept. Envoy prints lines of many kilobytes, such as the list of its extensions.
const (
	tailLines   = 16
	tailLineLen = 2048 // kept while a line is incomplete or waits to be shown
	tailShown   = 400  // shown in an error
)

// tail passes what is written on to another writer and remembers the last lines of it. Failures of that writer are swallowed:
// a full disk must not end Envoy's log pipe and with it Envoy.
type tail struct {
	out io.Writer

	mu      sync.Mutex
	ring    [tailLines][]byte
	n       int    // lines ever seen
	partial []byte // the line being written, cut at tailLineLen
}

func newTail(out io.Writer) *tail { return &tail{out: out} }

// Write implements io.Writer and never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	for rest := b; len(rest) > 0; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		t.partial = append(t.partial, line[:min(len(line), tailLineLen-len(t.partial))]...)
		if whole {
			t.push()
		}
		rest = more
	}
	t.mu.Unlock()
	_, _ = t.out.Write(b)
	return len(b), nil
}

// push ends the line being written. Empty ones say nothing.
func (t *tail) push() {
	if len(bytes.TrimSpace(t.partial)) > 0 {
		slot := &t.ring[t.n%tailLines]
		*slot = append((*slot)[:0], t.partial...)
		t.n++
	}
	t.partial = t.partial[:0]
}

// lines returns what is remembered, oldest first, fit to be shown: without credentials, cut to a readable length.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.push()
	var all []byte
	for i := max(0, t.n-tailLines); i < t.n; i++ {
		all = append(append(all, t.ring[i%tailLines]...), '\n')
	}
	var out []string
	for line := range strings.Lines(redact(string(all))) {
		if line = shorten(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// Envoy prints the whole bootstrap when it cannot read it, and the bootstrap may hold a token or a key. A line that is
// nothing but base64 is taken for the rest of a key whose beginning is not remembered.
var (
	tokens = regexp.MustCompile(`eyJ[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]*)*`)
	keys   = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)
	base64 = regexp.MustCompile(`(?m)^\s*[A-Za-z0-9+/=_-]{40,}\s*$`)
)

func redact(s string) string {
	s = keys.ReplaceAllString(s, "[private key]\n")
	s = tokens.ReplaceAllString(s, "[token]")
	return base64.ReplaceAllString(s, "[base64]")
}

func shorten(line string) string {
	line = strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD"))
	if len(line) <= tailShown {
		return line
	}
	cut := tailShown
	for !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut] + "…"
}
