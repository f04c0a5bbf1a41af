// Command fakeenvoy behaves like Envoy towards its supervisor, with the faults that its configuration file asks for. It
// prints what happens to it on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

type config struct {
	Admin      string   // unix socket, empty for none
	Stderr     string   // printed at once
	Exit       *int     // exits at once with this status
	Kill       bool     // kills itself at once
	IgnoreTerm bool     // SIGTERM has no effect
	NotReady   []string // bodies of the first answers to /ready, with status 503
	FailDrain  bool     // /healthcheck/fail has status 500
	DieOnDrain bool     // /healthcheck/fail makes it exit with status 7
}

func main() {
	if slices.Contains(os.Args[1:], "--version") {
		fmt.Printf("\n%s  version: 0123abc/1.40.2/Clean/RELEASE/BoringSSL\n\n", os.Args[0])
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	at := slices.Index(os.Args, "--config-path")
	content, err := os.ReadFile(os.Args[at+1])
	if err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(content, &c); err != nil {
		return err
	}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("args " + strings.Join(os.Args[1:], " "))
	fmt.Fprint(os.Stderr, c.Stderr)
	if c.Exit != nil {
		os.Exit(*c.Exit)
	}
	if c.Kill {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if c.Admin != "" {
		l, err := net.Listen("unix", c.Admin)
		if err != nil {
			return err
		}
		go http.Serve(l, admin(c))
	}
	fmt.Println("serving")
	for range signals {
		fmt.Println("SIGTERM")
		if !c.IgnoreTerm {
			return nil
		}
	}
	return nil
}

func admin(c config) http.Handler {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.RequestURI)
		switch {
		case r.URL.Path == "/ready":
			if n := int(asked.Add(1)); n <= len(c.NotReady) {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, c.NotReady[n-1])
				return
			}
			fmt.Fprintln(w, "LIVE")
		case r.URL.Path == "/healthcheck/fail" && c.DieOnDrain:
			os.Exit(7)
		case r.URL.Path == "/healthcheck/fail" && c.FailDrain:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			fmt.Fprintln(w, "OK")
		}
	})
}
