// Package accesslog carries access log lines from Envoy to TCP receivers: Envoy writes into a FIFO, the agent sends each
// line on (contract agent.md §4.6).
package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/agent/socket"
)

// Feature is what an agent with this pipe announces in its bootstrap request.
const Feature = "feature-tcp-accesslog-via-named-pipe"

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	maxLine      = 1 << 20
	maxReceivers = 64 // addresses come from configuration; this only bounds what a broken one costs
	idleAfter    = 5 * time.Minute
	retryAfter   = time.Second // after a failed attempt to connect
)

// Config says what a Streamer needs.
type Config struct {
	// Path is the FIFO's, as the control plane computes it.
	Path string
	// Log is told of receivers that cannot be reached; nil is silent.
	Log *slog.Logger
}

// Streamer reads one FIFO.
type Streamer struct {
	log  *slog.Logger
	pipe *os.File
	path string
}

// New makes the FIFO, owner-only, and opens it, so that Envoy never waits for a reader.
func New(cfg Config) (*Streamer, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := socket.Clear(cfg.Path); err != nil {
		return nil, err
	}
	if err := unix.Mkfifo(cfg.Path, 0o600); err != nil {
		return nil, fmt.Errorf("make access log pipe %s: %w", cfg.Path, err)
	}
	// Opened for writing too, reading never ends when Envoy closes its end, and opening does not wait for it.
	pipe, err := os.OpenFile(cfg.Path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open access log pipe %s: %w", cfg.Path, err), os.Remove(cfg.Path))
	}
	return &Streamer{log: log, pipe: pipe, path: cfg.Path}, nil
}

// Run sends lines on until ctx ends, then removes the FIFO. A line that cannot be sent is dropped.
func (s *Streamer) Run(ctx context.Context) error {
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- s.pipe.Close() })
	defer stop()
	receivers := receivers{log: s.log, open: map[string]*receiver{}}
	defer receivers.close()
	err := s.read(ctx, &receivers)
	if ctx.Err() != nil {
		return errors.Join(<-closed, os.Remove(s.path))
	}
	return errors.Join(fmt.Errorf("read access log pipe: %w", err), s.pipe.Close(), os.Remove(s.path))
}

func (s *Streamer) read(ctx context.Context, to *receivers) error {
	lines := bufio.NewReaderSize(s.pipe, 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		address, message, ok := parse(line)
		if !ok {
			s.log.Warn("access log line skipped: it is in none of the known forms", "bytes", len(line))
			continue
		}
		to.send(ctx, address, message)
	}
}

// readLine returns a line with its end; one that is too long is skipped whole.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := r.ReadSlice('\n')
		if !tooLong && len(line)+len(part) <= maxLine {
			line = append(line, part...)
		} else {
			tooLong, line = true, nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		case tooLong:
			tooLong = false
			continue
		}
		return line, nil
	}
}

// parse reads one line: {"address":"host:port","message":…}, or the older host:port;text.
func parse(line []byte) (address string, message []byte, ok bool) {
	if len(line) > 0 && line[0] == '{' {
		var entry struct {
			Address string          `json:"address"`
			Message json.RawMessage `json:"message"`
		}
		if err := json.Unmarshal(line, &entry); err != nil || entry.Address == "" || len(entry.Message) == 0 {
			return "", nil, false
		}
		var text string
		if json.Unmarshal(entry.Message, &text) == nil && entry.Message[0] == '"' {
			message = []byte(text)
		} else {
			var compact bytes.Buffer
			if json.Compact(&compact, entry.Message) != nil {
				return "", nil, false
			}
			message = compact.Bytes()
		}
		return entry.Address, append(message, '\n'), validAddress(entry.Address)
	}
	before, after, found := bytes.Cut(line, []byte{';'})
	return string(before), after, found && validAddress(string(before))
}

func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	return err == nil && host != "" && port != ""
}

// receivers are the open connections, one for each address.
type receivers struct {
	log  *slog.Logger
	open map[string]*receiver
}

type receiver struct {
	conn  net.Conn
	retry time.Time // not before; set while it cannot be reached
	used  time.Time
}

func (r *receivers) send(ctx context.Context, address string, message []byte) {
	now := time.Now()
	to := r.open[address]
	if to == nil {
		r.makeRoom(now)
		to = &receiver{}
		r.open[address] = to
	}
	to.used = now
	if to.conn != nil && ended(to.conn) { // it was restarted: writing would seem to succeed
		to.drop()
	}
	// A connection that fails may have been lost long ago, so the line is worth a new one; that one is not.
	for fresh := false; !fresh; {
		if fresh = to.conn == nil; fresh && !r.dial(ctx, to, address) {
			return
		}
		err := to.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = io.Copy(to.conn, bytes.NewReader(message))
		}
		if err == nil {
			return
		}
		r.log.Warn("access log receiver lost", "address", address, "reason", err.Error())
		to.drop()
	}
}

// dial connects to a receiver, unless it could not be reached just now: lines come faster than a dead one can be tried,
// and all wait for one attempt.
func (r *receivers) dial(ctx context.Context, to *receiver, address string) bool {
	if time.Now().Before(to.retry) {
		return false
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		to.retry = time.Now().Add(retryAfter)
		r.log.Warn("access log receiver cannot be reached, its lines are dropped", "address", address, "reason", err.Error())
		return false
	}
	to.conn = conn
	return true
}

func (r *receiver) drop() {
	_ = r.conn.Close() // it has failed already
	r.conn = nil
}

// ended says whether the other side has closed the connection. Receivers send nothing.
func ended(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		return true // never wait
	})
	return over || err != nil
}

// makeRoom forgets receivers that are not used any more, and the longest unused one when there are too many.
func (r *receivers) makeRoom(now time.Time) {
	oldest := ""
	for address, c := range r.open {
		if now.Sub(c.used) > idleAfter {
			r.forget(address)
		} else if oldest == "" || c.used.Before(r.open[oldest].used) {
			oldest = address
		}
	}
	if len(r.open) >= maxReceivers {
		r.forget(oldest)
	}
}

func (r *receivers) forget(address string) {
	if c := r.open[address]; c != nil && c.conn != nil {
		_ = c.conn.Close() // nothing more is to be sent
	}
	delete(r.open, address)
}

func (r *receivers) close() {
	for address := range r.open {
		r.forget(address)
	}
}
