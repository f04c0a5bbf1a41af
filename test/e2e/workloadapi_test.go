//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// withApplications is scene.Mesh that has identities for applications.
var withApplications = strings.Replace(scene.Mesh, "mtls:\n", "mtls:\n  applicationIdentities: true\n", 1)

// TestWorkloadAPI: an application gets its identity with go-spiffe from the agent beside it, and reaches another workload's Envoy
// with it, before and after the authority of the mesh is exchanged.
func TestWorkloadAPI(t *testing.T) {
	s := newBareScene(t, "kuma-wapi")
	apply(t, s, allowAll)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web-1", Service: "web", NoRedirect: true, NoAgent: true})
	path := web.WorkDir + "/api.sock"
	web = startAgentOf(t, web, scene.WorkloadConfig{Args: []string{"--workload-api-socket=unix://" + path, "--workload-api-uids=0"}})
	address := workloadapi.WithAddr("unix://" + path)

	await(t, "an answer without the mesh's consent", func(c context.Context) error {
		_, err := workloadapi.FetchX509SVID(c, address)
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "set mtls.applicationIdentities in the Mesh") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	apply(t, s, withApplications)
	source, err := workloadapi.NewX509Source(ctx(t), workloadapi.WithClientOptions(address))
	if err != nil {
		t.Fatalf("%v\n%s", err, web.Agent.Log())
	}
	defer source.Close()
	svid, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	if svid.ID.String() != "spiffe://default/web" {
		t.Errorf("the application is %s", svid.ID)
	}
	if own := trustOf(t, web); own.serial == svid.Certificates[0].SerialNumber.String() {
		t.Error("the application has Envoy's certificate")
	}
	await(t, "backend to answer the application", func(context.Context) error {
		seen, err := reach(t, source, web, backend) //nolint:contextcheck // it has the test's
		if err == nil && !strings.Contains(seen.ClientCert, "URI=spiffe://default/web") {
			err = fmt.Errorf("it saw %+v", seen)
		}
		return err
	})

	// A rotation is over when the last certificate of the old authority is gone, the application's among them.
	before := svid.Certificates[0].AuthorityKeyId
	rotate(t, s)
	if svid, err = source.GetX509SVID(); err != nil || slices.Equal(svid.Certificates[0].AuthorityKeyId, before) {
		t.Errorf("after the rotation the application has a certificate of the old authority: %v", err)
	}
	if _, err := reach(t, source, web, backend); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	var page struct {
		Applications struct {
			Socket   string
			UIDs     []int
			Identity struct {
				State string
				URIs  []string
			}
		}
		Clock struct{ ClockSkew, MeasuredBy string }
	}
	out, err := web.Host.Command(ctx(t), 0, s.Path("kuma-dp"), "debug", "identity", "--work-dir", web.WorkDir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &page); err != nil {
		t.Fatal(err)
	}
	if page.Applications.Identity.State != "issued" || len(page.Applications.Identity.URIs) != 1 || page.Clock.MeasuredBy != "certificate" || strings.Contains(string(out), "PRIVATE") {
		t.Errorf("page %s", out)
	}
}

// startAgentOf starts the agent of a workload that was made without, and waits until it is ready.
func startAgentOf(t *testing.T, w *scene.Workload, cfg scene.WorkloadConfig) *scene.Workload {
	t.Helper()
	if err := w.StartAgent(ctx(t), cfg); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(ctx(t)); err != nil {
		t.Fatalf("%v\n%s", err, w.Agent.Log())
	}
	return w
}

// reach sends a request to another workload's Envoy with the identity of an application. A certificate of the control plane has
// further names than the SPIFFE ID, which go-spiffe's own check does not allow: it is verified as any certificate, and for one.
func reach(t *testing.T, source *workloadapi.X509Source, from, to *scene.Workload) (seen scene.Seen, err error) {
	t.Helper()
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"kuma"}, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			svid, err := source.GetX509SVID()
			if err != nil {
				return nil, err
			}
			own := &tls.Certificate{PrivateKey: svid.PrivateKey}
			for _, c := range svid.Certificates {
				own.Certificate = append(own.Certificate, c.Raw)
			}
			return own, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			bundle, err := source.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("default"))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			for _, a := range bundle.X509Authorities() {
				roots.AddCert(a)
			}
			leaf := state.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return err
			}
			for _, u := range leaf.URIs {
				if u.String() == "spiffe://default/"+to.Service {
					return nil
				}
			}
			return fmt.Errorf("it is %v", leaf.URIs)
		},
	}
	client := scene.HTTPClient(from.Host)
	defer client.CloseIdleConnections()
	plain, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the client's transport is a %T", client.Transport)
	}
	plain.TLSClientConfig = config
	req, err := http.NewRequestWithContext(ctx(t), http.MethodGet, "https://"+net.JoinHostPort(to.Host.Addr.String(), fmt.Sprint(scene.AppPort)), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req)
	if err != nil {
		return seen, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return seen, errors.New(answer.Status)
	}
	return seen, json.NewDecoder(answer.Body).Decode(&seen)
}
