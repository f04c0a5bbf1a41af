package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
)

// newWait polls a readiness URL (contract agent.md §1.8).
func newWait() *cobra.Command {
	var url string
	var every, each, all time.Duration
	c := &cobra.Command{
		Use: "wait", Short: "Wait for data plane proxy to be ready", Args: command.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if every <= 0 || each <= 0 || all <= 0 {
				return fmt.Errorf("--check-frequency, --request-timeout and --timeout must be positive: %w", command.ErrUsage)
			}
			return wait(c.Context(), url, every, each, all)
		},
	}
	f := c.Flags()
	f.StringVar(&url, "url", "http://localhost:9901/ready", "URL that answers 200 when the proxy is ready")
	f.DurationVar(&every, "check-frequency", time.Second, "how often to ask")
	f.DurationVar(&each, "request-timeout", 500*time.Millisecond, "how long one answer may take")
	f.DurationVar(&all, "timeout", 180*time.Second, "how long to wait in total")
	return c
}

func wait(ctx context.Context, url string, every, each, all time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, all)
	defer cancel()
	client := &http.Client{Timeout: each, Transport: &http.Transport{DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", err, command.ErrUsage)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last string
	for {
		answer, err := client.Do(q)
		if err != nil {
			last = err.Error()
		} else {
			_ = answer.Body.Close() // only its status matters
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			last = answer.Status
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("timeout occurred while waiting for data plane proxy to be ready (last: %s)", last)
			}
			return ctx.Err()
		}
	}
}
