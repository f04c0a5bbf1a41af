package group

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func blocks(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestFirstErrorStopsTheOthers(t *testing.T) {
	boom := errors.New("boom")
	err := Run(t.Context(),
		Member{"waits", blocks},
		Member{"fails", func(context.Context) error { return boom }})
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "fails: ") {
		t.Fatalf("got %v", err)
	}
}

func TestMembersStopFromTheLastToTheFirst(t *testing.T) {
	var mu sync.Mutex
	var stopped []string
	member := func(name string) Member {
		return Member{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, member("a"), member("b"), member("c")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"c", "b", "a"}; !slices.Equal(stopped, want) {
		t.Fatalf("stopped %v, want %v", stopped, want)
	}
}

func TestPanicIsAnError(t *testing.T) {
	err := Run(t.Context(), Member{"p", func(context.Context) error { panic("ouch") }})
	if err == nil || !strings.Contains(err.Error(), "p: panic: ouch") {
		t.Fatalf("got %v", err)
	}
}

func TestNilReturnStopsTheGroup(t *testing.T) {
	if err := Run(t.Context(), Member{"w", blocks}, Member{"n", func(context.Context) error { return nil }}); err != nil {
		t.Fatal(err)
	}
}

func TestNoMembers(t *testing.T) {
	if err := Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
