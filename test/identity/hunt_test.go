//go:build linux

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// secret is bytes that must not be found, in any of the ways that they may be written.
type secret struct {
	name string
	// within is the type of the message that a key was sent in.
	within string
	marks  map[string][]byte // by the way they are written
}

// know adds raw bytes in binary, hexadecimal, base64 at any offset, and as Go prints numbers. Half of them are enough to be
// found: they may be cut in two.
func (s secret) know(what string, raw []byte) {
	for i, half := range [][]byte{raw[:len(raw)/2], raw[len(raw)/2:]} {
		add := func(way string, mark []byte) { s.marks[fmt.Sprintf("%s in %s, half %d", what, way, i+1)] = mark }
		add("binary", half)
		lower := hex.EncodeToString(half)
		add("hexadecimal", []byte(lower))
		add("upper-case hexadecimal", []byte(strings.ToUpper(lower)))
		numbers := fmt.Sprintf("%d", half)
		add("decimal numbers", []byte(numbers[1:len(numbers)-1]))
		for shift := range 3 {
			// What stands before and after moves the first and the last characters.
			padded := append(make([]byte, shift), half...)
			text := base64.RawStdEncoding.EncodeToString(padded)
			from, to := []int{0, 2, 3}[shift], len(text)-[]int{0, 1, 1}[len(padded)%3]
			add(fmt.Sprintf("base64 at %d", shift), []byte(text[from:to]))
			add(fmt.Sprintf("URL base64 at %d", shift), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(text[from:to])))
		}
	}
}

// flatten leaves out ends of lines, also as they are written within quotes.
func flatten(text []byte) []byte {
	for _, end := range []string{"\n", "\r", `\n`, `\r`} {
		text = bytes.ReplaceAll(text, []byte(end), nil)
	}
	return text
}

// plain are secrets as they are in memory: there is too much of that to look for many in all ways to write them.
func plain(secrets []secret) (out []secret) {
	for _, s := range secrets {
		s.marks = maps.Clone(s.marks)
		maps.DeleteFunc(s.marks, func(way string, _ []byte) bool { return !strings.Contains(way, "in binary") })
		out = append(out, s)
	}
	return out
}

// find says how a text, or the same flattened, gives away a secret; "" when it does not.
func (s secret) find(text, flat []byte) string {
	for way, mark := range s.marks {
		if bytes.Contains(text, mark) || bytes.Contains(flat, mark) {
			return s.name + " as " + way
		}
	}
	return ""
}

// tokenOf knows the token of a workload by its two parts that are nobody else's.
func tokenOf(t *testing.T, w *scene.Workload) secret {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.WorkDir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(string(text)), ".")
	if len(parts) != 3 {
		t.Fatal("the token is none")
	}
	s := secret{name: "token", marks: map[string][]byte{}}
	s.know("claims", []byte(parts[1]))
	s.know("signature", []byte(parts[2]))
	return s
}

var typeName = regexp.MustCompile(`type\.googleapis\.com/[\w.]*\.(\w+)`)

// keysIn reads the private keys in PEM that a text holds, each once.
func keysIn(t *testing.T, text []byte) (keys []secret) {
	t.Helper()
	for {
		i := bytes.Index(text, []byte("-----BEGIN EC PRIVATE KEY-----"))
		if i < 0 {
			return keys
		}
		block, rest := pem.Decode(text[i:])
		if block == nil {
			t.Fatal("a key is cut")
		}
		key, err := certs.ParseKey(pem.EncodeToMemory(block))
		if err != nil {
			t.Fatal(err)
		}
		private, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			t.Fatalf("a key of type %T", key)
		}
		scalar, err := private.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		s := secret{name: fmt.Sprintf("private key %x", sha256.Sum256(scalar)), marks: map[string][]byte{}}
		if m := typeName.FindAllSubmatch(text[:i], -1); m != nil {
			s.within = string(m[len(m)-1][1])
		}
		s.know("scalar", scalar)
		// PEM may itself be written in another way, as bytes are in JSON. The scalar begins with byte 7 of the DER.
		s.know("PEM", []byte(base64.StdEncoding.EncodeToString(block.Bytes)[12:52]))
		if !slices.ContainsFunc(keys, func(k secret) bool { return k.name == s.name }) {
			keys = append(keys, s)
		}
		text = rest
	}
}

// memoryOf reads what a process can write to, as root.
func memoryOf(t *testing.T, pid int) (memory []byte) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	const page = 4096
	chunk := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, " rw") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for ; from < to; from += int64(len(chunk)) {
			n, _ := mem.ReadAt(chunk[:min(to-from, int64(len(chunk)))], from) // what has gone meanwhile is not there
			for used := range slices.Chunk(chunk[:n], page) {
				if !bytes.Equal(used, make([]byte, len(used))) { // most of what is reserved was never used
					memory = append(memory, used...)
				}
			}
		}
	}
	return memory
}

// TestHunt hides a key in all ways, and asks that it is found.
func TestHunt(t *testing.T) {
	key, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keys := keysIn(t, slices.Concat([]byte("before\n"), text, text, []byte("after")))
	if len(keys) != 1 {
		t.Fatalf("found %d keys, want the one", len(keys))
	}
	block, _ := pem.Decode(text)
	scalar, err := key.(*ecdsa.PrivateKey).Bytes() //nolint:forcetypeassert // it was made as one
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text string }{
		{"PEM", string(text)},
		{"PEM within JSON", fmt.Sprintf("%q", text)},
		{"PEM as bytes within JSON", base64.StdEncoding.EncodeToString(slices.Concat([]byte("x"), text))},
		{"DER", string(block.Bytes)},
		{"DER in URL base64", base64.URLEncoding.EncodeToString(block.Bytes)},
		{"DER in hexadecimal", fmt.Sprintf("%X", block.Bytes)},
		{"as Go prints it", fmt.Sprintf("%d", scalar)},
		{"its first half", "x" + string(scalar[:16])},
		{"its other half in base64", base64.StdEncoding.EncodeToString([]byte("xx" + string(scalar[16:])))},
	} {
		if howMany(keys[:1], []byte("some "+tt.text+" more")) == 0 {
			t.Errorf("%s: it is not found", tt.name)
		}
	}
	hunt(t, "all but the key", slices.Concat(block.Bytes[:7], block.Bytes[39:]), keys)
}
