package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/kuma-dp/kuma-dp/bootstrap"
)

// controlPlane is a control plane of a mesh without services, in clear: a bootstrap and empty answers.
type controlPlane struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	server *httptest.Server
	admin  string      // where Envoy's admin interface is to be
	extra  string      // more of the bootstrap
	tproxy atomic.Bool // says that the proxy uses a transparent proxy
}

// newControlPlane starts one that adds extra, in YAML, to its bootstrap.
func newControlPlane(t *testing.T, extra string) *controlPlane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{admin: freePort(t), extra: extra}
	c.serve(t, l)
	return c
}

func (c *controlPlane) serve(t *testing.T, l net.Listener) {
	t.Helper()
	rpc := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(rpc, c)
	c.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.Header.Get("content-type"), "application/grpc") {
			rpc.ServeHTTP(w, q)
			return
		}
		c.bootstrap(w, q)
	})}}
	c.server.Config.Protocols = &http.Protocols{}
	c.server.Config.Protocols.SetHTTP1(true)
	c.server.Config.Protocols.SetUnencryptedHTTP2(true)
	c.server.Start()
	t.Cleanup(func() { rpc.Stop(); c.server.CloseClientConnections(); c.server.Close() })
}

func (c *controlPlane) bootstrap(w http.ResponseWriter, q *http.Request) {
	var r bootstrap.Request
	if err := json.NewDecoder(q.Body).Decode(&r); err != nil {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	host, port, _ := net.SplitHostPort(c.admin)
	yaml := fmt.Sprintf(`
admin: {address: {socketAddress: {address: %s, portValue: %s}}}
node: {id: %s.%s, cluster: demo}
dynamicResources:
  adsConfig: {apiType: GRPC, transportApiVersion: V3, grpcServices: [{googleGrpc: {targetUri: %q, statPrefix: ads}}]}
  cdsConfig: {ads: {}, initialFetchTimeout: 0s, resourceApiVersion: V3}
  ldsConfig: {ads: {}, initialFetchTimeout: 0s, resourceApiVersion: V3}
%s`, host, port, r.Mesh, r.Name, c.server.Listener.Addr(), c.extra)
	w.Header().Set("content-type", "application/json")
	fmt.Fprintf(w, `{"bootstrap":%q,"kumaSidecarConfiguration":{"networking":{"address":"127.0.0.1","isUsingTransparentProxy":%t},"metrics":{"aggregate":null}}}`,
		base64.StdEncoding.EncodeToString([]byte(yaml)), c.tproxy.Load())
}

// DeltaAggregatedResources says of everything that there is none.
func (c *controlPlane) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		q, err := stream.Recv()
		if err != nil {
			return err
		}
		if q.GetResponseNonce() != "" {
			continue
		}
		if err := stream.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: q.GetTypeUrl(), Nonce: "n"}); err != nil {
			return err
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
