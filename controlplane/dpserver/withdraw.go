package dpserver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
)

// errWithdrawn ends a stream whose token is not accepted any more.
var errWithdrawn = errors.New("token is withdrawn")

// withdrawals ends streams that were opened with a token which has been revoked since, or whose key was deleted: a stream
// lives for weeks, and its token was looked at once (demands.md, assertion 27). Its methods are safe for concurrent use.
type withdrawals struct {
	mu      sync.Mutex
	streams map[string]map[*open]struct{} // by token
	ended   uint64
}

// open is a stream.
type open struct {
	grpc.ServerStream
	ctx context.Context
	end context.CancelCauseFunc
}

func (o *open) Context() context.Context { return o.ctx }

func (w *withdrawals) add(raw string, o *open) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams == nil {
		w.streams = map[string]map[*open]struct{}{}
	}
	if w.streams[raw] == nil {
		w.streams[raw] = map[*open]struct{}{}
	}
	w.streams[raw][o] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.streams[raw], o)
		if len(w.streams[raw]) == 0 {
			delete(w.streams, raw)
		}
	}
}

// look ends the streams whose token check refuses, and returns how many and one of the reasons.
func (w *withdrawals) look(check func(raw string) error) (ended int, reason error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for raw, streams := range w.streams {
		err := check(raw)
		if !errors.Is(err, token.ErrInvalid) {
			continue // it holds, or the store cannot say
		}
		for o := range streams {
			if o.ctx.Err() != nil {
				continue // it is ending
			}
			o.end(fmt.Errorf("%w: %w", errWithdrawn, err))
			ended++
		}
		reason = err
	}
	w.ended += uint64(ended)
	return ended, reason
}

// Withdrawn returns how many streams were ended because their token is not accepted any more.
func (s *Server) Withdrawn() uint64 {
	s.withdrawals.mu.Lock()
	defer s.withdrawals.mu.Unlock()
	return s.withdrawals.ended
}

// guardStream lets a stream be ended by look. Without a token there is nothing to withdraw.
func (s *Server) guardStream(srv any, stream grpc.ServerStream, next grpc.StreamHandler) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	raw := md.Get("authorization")
	if len(raw) != 1 || raw[0] == "" || s.validator() == nil {
		return next(srv, stream)
	}
	// Where sidecars need no token, one that is no good lets them in all the same, and is not looked at again.
	if s.cfg.Tokens == nil && s.validator().Withdrawn(raw[0]) != nil {
		return next(srv, stream)
	}
	o := &open{ServerStream: stream}
	o.ctx, o.end = context.WithCancelCause(stream.Context())
	defer o.end(nil)
	defer s.withdrawals.add(raw[0], o)()
	err := next(srv, o)
	if cause := context.Cause(o.ctx); errors.Is(cause, errWithdrawn) {
		return status.Errorf(codes.Unauthenticated, "authentication failed: %v", cause)
	}
	return err
}

// validator knows both kinds of tokens.
func (s *Server) validator() *token.Validator {
	if s.cfg.Tokens != nil {
		return s.cfg.Tokens
	}
	return s.cfg.ZoneTokens
}

// followSecrets ends streams as soon as their tokens are withdrawn, until ctx ends or the store is closed. It closes w.
func (s *Server) followSecrets(ctx context.Context, w store.Watcher) error {
	defer w.Close()
	if s.validator() == nil {
		return nil
	}
	for {
		events, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		if !withdraws(events) {
			continue
		}
		if n, reason := s.withdrawals.look(s.validator().Withdrawn); n > 0 {
			s.log.Warn("ended streams whose token is not accepted any more", "streams", n, "reason", reason)
		}
	}
}

func withdraws(events []store.Event) bool {
	for _, ev := range events {
		r := ev.New
		if r == nil {
			r = ev.Old
		}
		if token.Concerns(r.Name) {
			return true
		}
	}
	return false
}
