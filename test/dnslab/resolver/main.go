// Command resolver runs the agent's resolver by itself, so that tests can put it into a namespace and see what the process
// costs. Its input is JSON: first the configuration, a dns.Config, then tables, each of which takes the place of the one
// before. It says "ready" and, for each table in use, "table" on its output, and ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/kuma-dp/kuma-dp/dns"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "resolver:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	input := json.NewDecoder(bufio.NewReader(in))
	input.DisallowUnknownFields() // what is misspelled tests nothing
	cfg := dns.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := input.Decode(&cfg); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	s, err := dns.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() { cancel(tables(input, out, s)) }()
	if err := s.Run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// tables puts one table after the other into use, until the input ends.
func tables(input *json.Decoder, out io.Writer, s *dns.Server) error {
	<-s.Ready()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	for {
		var records []dns.Record
		if err := input.Decode(&records); err != nil {
			return err
		}
		s.SetTable(dns.NewTable(records, dns.DefaultTTL))
		if _, err := fmt.Fprintln(out, "table"); err != nil {
			return err
		}
	}
}
