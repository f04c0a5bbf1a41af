//go:build linux

package identity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// writing are the system calls by which bytes leave a process. Those of io_uring and of shared memory show no bytes: the test
// asks that there are none.
var writing = []string{
	"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "vmsplice",
	"splice", "tee", "sendfile", "copy_file_range", "io_uring_setup", "process_vm_writev", "mmap",
}

// tracer runs a command and its children, and writes down what they write. Nothing may be left out: strings of any length,
// all parts of a vector.
func tracer(file string) []string {
	return []string{
		"strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "--signal=none", "--no-abbrev", "--string-limit=16777216",
		"--strings-in-hex=all", "--decode-fds=all", "--trace=" + strings.Join(writing, ","), "--output=" + file,
	}
}

// call is one system call.
type call struct {
	pid  int
	name string
	// to is the descriptor and what is behind it, args the rest.
	to, args string
	// data are all strings among the arguments, one after the other; cut is set when the trace does not hold all of one.
	data []byte
	cut  bool
	// result is what the call returned, -1 when it failed or did not return.
	result int
}

var (
	callLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumed  = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	hexBytes = regexp.MustCompile(`(\\x[0-9a-f]{2})+`)
	inHex    = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?`)
)

// readable is a part of the trace with its strings as text.
func readable(text string) string {
	return hexBytes.ReplaceAllStringFunc(text, func(run string) string {
		b, err := hex.DecodeString(strings.ReplaceAll(run, `\x`, ""))
		if err != nil {
			return run
		}
		return string(b)
	})
}

// readTrace reads what tracer's command has written.
func readTrace(t *testing.T, file string) []call {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := parseTrace(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func parseTrace(text string) ([]call, error) {
	const unfinished = " <unfinished ...>"
	var calls []call
	begun := map[string]int{} // calls that have not returned, by thread
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := resumed.FindStringSubmatch(line); m != nil {
			if i, ok := begun[m[1]]; ok {
				calls[i].result = resultOf(m[3])
				delete(begun, m[1])
			}
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			if strings.Contains(line, "+++") || strings.Contains(line, "---") {
				continue // an end, a signal
			}
			return nil, fmt.Errorf("unexpected line in the trace: %.200s", line)
		}
		c := call{name: m[2], result: -1}
		c.pid, _ = strconv.Atoi(m[1]) // digits
		args, waits := strings.CutSuffix(m[3], unfinished)
		if waits {
			begun[m[1]] = len(calls)
		} else {
			c.result = resultOf(args)
		}
		c.to, c.args, _ = strings.Cut(args, ">, ")
		for _, s := range inHex.FindAllStringSubmatch(c.args, -1) {
			b, err := hex.DecodeString(strings.ReplaceAll(s[1], `\x`, ""))
			if err != nil {
				return nil, err
			}
			c.data, c.cut = append(c.data, b...), c.cut || s[2] != ""
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// resultOf reads the number after the last "= ".
func resultOf(text string) int {
	_, text, _ = strings.Cut(text[max(0, strings.LastIndex(text, ") ")):], "= ")
	text, _, _ = strings.Cut(text, " ")
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return int(n)
	}
	return -1
}

// streams puts together what went to each place, in order.
func streams(calls []call) map[string][]byte {
	out := map[string][]byte{}
	for _, c := range calls {
		out[c.to] = append(out[c.to], c.data...)
	}
	return out
}

// sent is what the kernel took of the calls to one place.
func sent(calls []call, to string) (out []byte) {
	for _, c := range calls {
		if c.to == to && c.result > 0 {
			out = append(out, c.data[:min(c.result, len(c.data))]...)
		}
	}
	return out
}

// http2 returns the data of all streams of one end of an HTTP/2 connection.
func http2(b []byte) (map[uint32][]byte, error) {
	const header, data = 9, 0
	b = bytes.TrimPrefix(b, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	out := map[uint32][]byte{}
	for len(b) > 0 {
		if len(b) < header {
			return nil, fmt.Errorf("%d bytes are left of the frames", len(b))
		}
		size, kind, stream := int(b[0])<<16|int(b[1])<<8|int(b[2]), b[3], binary.BigEndian.Uint32(b[5:])
		if b = b[header:]; len(b) < size {
			return nil, fmt.Errorf("a frame of %d bytes is cut after %d", size, len(b))
		}
		if kind == data {
			out[stream] = append(out[stream], b[:size]...)
		}
		b = b[size:]
	}
	return out, nil
}

func TestParseTrace(t *testing.T) {
	calls, err := parseTrace(`7 write(3<TCP:[1.2.3.4:5->6.7.8.9:10]>, "\x61\x62\x63", 3) = 2
8 writev(4<UNIX-STREAM:[1->2]>, [{iov_base="\x61", iov_len=1}, {iov_base="\x62\x63", iov_len=2}], 2 <unfinished ...>
7 sendto(5<UDP:[9]>, "\x64"..., 4, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
8 <... writev resumed>) = 3
9 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3<\x2f\x61>, 0) = 0x7f0000000000
7 +++ exited with 0 +++
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []call{
		{7, "write", "3<TCP:[1.2.3.4:5->6.7.8.9:10]", `"\x61\x62\x63", 3) = 2`, []byte("abc"), false, 2},
		{8, "writev", "4<UNIX-STREAM:[1->2]", `[{iov_base="\x61", iov_len=1}, {iov_base="\x62\x63", iov_len=2}], 2`, []byte("abc"), false, 3},
		{7, "sendto", "5<UDP:[9]", `"\x64"..., 4, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)`, []byte("d"), true, -1},
		{9, "mmap", `NULL, 4096, PROT_READ, MAP_PRIVATE, 3<\x2f\x61`, "0) = 0x7f0000000000", nil, false, 0x7f0000000000},
	}
	if got := fmt.Sprintf("%+v", calls); got != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", calls, want)
	}
	if got := string(sent(calls, "3<TCP:[1.2.3.4:5->6.7.8.9:10]")); got != "ab" {
		t.Errorf("sent %q", got)
	}
	got, err := http2([]byte("\x00\x00\x02\x00\x00\x00\x00\x00\x01ab\x00\x00\x01\x04\x00\x00\x00\x00\x00x\x00\x00\x01\x00\x01\x00\x00\x00\x01c"))
	if err != nil || string(got[1]) != "abc" {
		t.Errorf("frames give %q, %v", got[1], err)
	}
}
