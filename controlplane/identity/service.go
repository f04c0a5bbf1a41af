package identity

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Metadata of a call, as docs/plan.md agrees.
const (
	headerToken = "authorization"
	headerNode  = "kuma-node-id"
	// headerFor is headerForApplication for a certificate of an application, see SignApplicationCSR.
	headerFor            = "kuma-identity-for"
	headerForApplication = "application"
	// Of the answer: this clock (RFC 3339 with nanoseconds), by which a certificate is judged, and how long (a Go duration)
	// the call had been here by then. An agent whose clock differs can tell.
	headerTime = "kuma-cp-time"
	headerHeld = "kuma-cp-held"
)

// registrationWait is how long a call waits for its Dataplane: an agent asks as soon as it starts, the Dataplane appears
// with its first ADS stream.
const registrationWait = 5 * time.Second

// Service is istio.v1.auth.IstioCertificateService over an Issuer.
type Service struct {
	istio.UnimplementedIstioCertificateServiceServer
	issuer *Issuer
	tokens *token.Validator
	log    *slog.Logger
}

// NewService serves certificate requests. With tokens nil nobody is asked for one (KUMA_DP_SERVER_AUTHN_DP_PROXY_TYPE=none).
func NewService(issuer *Issuer, tokens *token.Validator) *Service {
	return &Service{issuer: issuer, tokens: tokens, log: issuer.log}
}

// CreateCertificate signs the public key of a request for the proxy that the metadata names and the token proves. The
// chain is the leaf, then the authority. The names and the lifetime that the request asks for are ignored: those are the
// mesh's to say.
func (s *Service) CreateCertificate(ctx context.Context, req *istio.IstioCertificateRequest) (*istio.IstioCertificateResponse, error) {
	began := time.Now()
	defer func() {
		_ = grpc.SetHeader(ctx, metadata.Pairs(headerTime, s.issuer.now().UTC().Format(time.RFC3339Nano), headerHeld, time.Since(began).String())) // no call without a stream
	}()
	dp, permit, err := s.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	if !s.issuer.take(dp.Key) {
		return nil, status.Errorf(codes.ResourceExhausted, "%s asks for certificates too often: wait %s", dp.Key, interval)
	}
	sign := s.issuer.SignCSR
	if md, _ := metadata.FromIncomingContext(ctx); slices.Equal(md.Get(headerFor), []string{headerForApplication}) {
		sign = s.issuer.SignApplicationCSR
	}
	// Asked again about what gives the names: the Dataplane may have been replaced by another's since.
	id, err := sign(ctx, dp.Mesh, dp.Name, []byte(req.GetCsr()), permit)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	chain := []string{string(id.Cert)}
	roots, err := certs.ParseCertificates(id.Bundle)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	for _, c := range roots {
		chain = append(chain, string(certs.EncodeCertificates(c)))
	}
	s.log.Debug("signed a certificate request", "mesh", dp.Mesh, "proxy", dp.Name, "expires", id.NotAfter)
	return &istio.IstioCertificateResponse{CertChain: chain}, nil
}

// Authenticate returns the Dataplane that the metadata of a call names and the token proves. It waits a while for one that
// is not registered yet. Errors have a gRPC code.
func (s *Service) Authenticate(ctx context.Context) (*resource.Resource, error) {
	dp, _, err := s.authenticate(ctx)
	return dp, err
}

// authenticate returns with the Dataplane what the token says of another one in its place.
func (s *Service) authenticate(ctx context.Context) (dp *resource.Resource, permit func(*resource.Dataplane) error, err error) {
	mesh, name, raw, err := caller(ctx, s.tokens != nil)
	if err != nil {
		return nil, nil, err
	}
	var claims *token.Claims
	if s.tokens != nil {
		if claims, err = s.tokens.Dataplane(raw); err != nil {
			return nil, nil, unauthenticated(err)
		}
		// Everything but the tags can be checked before the Dataplane is there: a stranger shall not make us wait.
		early := *claims
		early.Tags = nil
		if err := early.Allow(token.Proxy{Name: name, Mesh: mesh}); err != nil {
			return nil, nil, unauthenticated(err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, registrationWait)
	defer cancel()
	dp, err = s.issuer.AwaitDataplane(wait, mesh, name)
	if err != nil {
		return nil, nil, s.explain(ctx, err)
	}
	permit = func(d *resource.Dataplane) error {
		if claims == nil {
			return nil
		}
		return claims.Allow(token.Proxy{Name: name, Mesh: mesh, Tags: Tags(d)})
	}
	if err := permit(resource.SpecOf[*resource.Dataplane](dp)); err != nil {
		return nil, nil, unauthenticated(err)
	}
	return dp, permit, nil
}

// caller reads who calls from the metadata.
func caller(ctx context.Context, tokenNeeded bool) (mesh, name, raw string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	tokens, nodes := md.Get(headerToken), md.Get(headerNode)
	switch {
	case tokenNeeded && len(tokens) != 1:
		return "", "", "", status.Errorf(codes.Unauthenticated, "request must have exactly 1 %q header, got %d", headerToken, len(tokens))
	case len(nodes) != 1:
		return "", "", "", status.Errorf(codes.InvalidArgument, "request must have exactly 1 %q header, got %d", headerNode, len(nodes))
	}
	mesh, name, ok := strings.Cut(nodes[0], ".")
	if !ok || mesh == "" || name == "" {
		return "", "", "", status.Errorf(codes.InvalidArgument, "header %q is %.100q, want <mesh>.<name>", headerNode, nodes[0])
	}
	if tokenNeeded {
		raw = tokens[0]
	}
	return mesh, name, raw, nil
}

func unauthenticated(err error) error {
	return status.Errorf(codes.Unauthenticated, "authentication failed: %v", err)
}

// explain maps an error to its code. What is no business of a proxy is logged and not told.
func (s *Service) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, token.ErrInvalid):
		return unauthenticated(err)
	case errors.Is(err, ErrUnknownProxy):
		return status.Errorf(codes.NotFound, "%v within %s: does its agent's ADS stream reach this control plane?", err, registrationWait)
	case errors.Is(err, ErrDisabled), errors.Is(err, ErrNoApplications):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, ErrBadRequest):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	s.log.Error("could not sign a certificate request", "error", err)
	return status.Error(codes.Internal, "the control plane could not sign the request, its log says why")
}
