package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

// visitor is who knocks at the data-plane server, and what it says about itself.
type visitor struct {
	// tokens are its authorization headers.
	tokens    []string
	mesh      string
	name      string
	proxyType string // empty for a sidecar
	// resource is the JSON that it brings along, if any.
	resource string
}

func (v *visitor) node() *corev3.Node {
	fields := map[string]*structpb.Value{}
	for k, text := range map[string]string{"dataplane.proxyType": v.proxyType, "dataplane.resource": v.resource} {
		if text != "" {
			fields[k] = structpb.NewStringValue(text)
		}
	}
	return &corev3.Node{Id: v.mesh + "." + v.name, Metadata: &structpb.Struct{Fields: fields}}
}

func (v *visitor) context(ctx context.Context) context.Context {
	var pairs []string
	for _, t := range v.tokens {
		pairs = append(pairs, "authorization", t)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// door is one way into the data-plane server. knock returns nil once it has been given what is behind it: configuration,
// checks, a certificate or a bootstrap.
type door struct {
	name  string
	knock func(context.Context, *visitor) error
	// zone: zone proxies come this way too. header: the token comes in a header.
	zone, header bool
}

// doors are all of them (contract controlplane.md §1.1).
func (r *running) doors(conn *grpc.ClientConn) []door {
	return []door{
		{"delta ADS", func(ctx context.Context, v *visitor) error {
			s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(v.context(ctx))
			if err != nil {
				return err
			}
			if err := s.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener, Node: v.node()}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err = s.Recv()
			return err
		}, true, true},
		{"state-of-the-world ADS", func(ctx context.Context, v *visitor) error {
			s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(v.context(ctx))
			if err != nil {
				return err
			}
			if err := s.Send(&discovery.DiscoveryRequest{TypeUrl: xds.TypeListener, Node: v.node()}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err = s.Recv()
			return err
		}, true, true},
		{"HDS", func(ctx context.Context, v *visitor) error {
			s, err := health.NewHealthDiscoveryServiceClient(conn).StreamHealthCheck(v.context(ctx))
			if err != nil {
				return err
			}
			if err := s.Send(&health.HealthCheckRequestOrEndpointHealthResponse{
				RequestType: &health.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{HealthCheckRequest: &health.HealthCheckRequest{Node: v.node()}},
			}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err = s.Recv()
			return err
		}, false, true},
		{"CreateCertificate", func(ctx context.Context, v *visitor) error {
			key, err := certs.NewKey(certs.ECDSAP256)
			if err != nil {
				return err
			}
			csr, err := certs.NewCSR(key)
			if err != nil {
				return err
			}
			ctx = metadata.AppendToOutgoingContext(v.context(ctx), "kuma-node-id", v.mesh+"."+v.name)
			resp, err := istio.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &istio.IstioCertificateRequest{Csr: string(csr)})
			if err == nil && len(resp.CertChain) == 0 {
				err = fmt.Errorf("no certificate in %v", resp)
			}
			return err
		}, false, true},
		{"bootstrap", func(ctx context.Context, v *visitor) error { return r.askBootstrap(ctx, conn.Target(), v) }, true, false},
	}
}

// askBootstrap gives the status of HTTP as that of gRPC: it has no other way to say Unauthenticated.
func (r *running) askBootstrap(ctx context.Context, target string, v *visitor) error {
	req := bootstrap.Request{Mesh: v.mesh, Name: v.name, ProxyType: v.proxyType, DataplaneResource: v.resource}
	if len(v.tokens) > 0 {
		req.DataplaneToken = v.tokens[0]
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.ca())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+target+"/bootstrap", bytes.NewReader(body))
	if err != nil {
		return err
	}
	post.Header.Set("Accept", "application/json")
	resp, err := client.Do(post)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusUnprocessableEntity && bytes.Contains(text, []byte("Token is required")):
		return status.Error(codes.Unauthenticated, string(text))
	}
	return fmt.Errorf("status %d: %s", resp.StatusCode, text)
}

// written is everything in the store that a proxy can cause to be written, with the times of the writes.
func (r *running) written() string {
	r.t.Helper()
	var out bytes.Buffer
	for _, path := range []string{
		"/dataplanes", "/meshes/default/dataplane-insights", "/meshes/second/dataplane-insights", "/zone-ingresses", "/zoneegresses", "/zone-ingress-insights", "/zoneegressinsights",
		"/meshes/default/secrets", "/global-secrets",
	} {
		out.WriteString(path + " ")
		out.Write(r.call("GET", path, ""))
	}
	return out.String()
}
