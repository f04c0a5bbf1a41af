// Package generate makes the Envoy bootstrap that a control plane gives to an agent (contract agent.md §2.8). It writes
// plain maps and renders them as YAML in protobuf's JSON naming, so that neither it nor its users need Envoy's types. It
// knows nothing of a mesh: what the Dataplane says arrives as Proxy.
package generate

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/bootstrap"
)

// Config are the control plane's settings (KUMA_BOOTSTRAP_SERVER_PARAMS_*, KUMA_DP_SERVER_*).
type Config struct {
	// XDSHost is the host that Envoy connects to; empty means the host that the agent called.
	XDSHost string
	// XDSPort is the port of the data-plane server.
	XDSPort uint32
	// ConnectTimeout of the cluster of the control plane.
	ConnectTimeout     time.Duration
	AdminAddress       string
	AdminPort          uint32
	AdminAccessLogPath string
	// HDS gives Dataplanes a health discovery service.
	HDS bool
	// ReloadableTokens lets Envoy read the token from its file instead of the bootstrap.
	ReloadableTokens bool
	// GatewayMaxConnections bounds a built-in gateway's downstream connections; 50000 when 0.
	GatewayMaxConnections uint32
	// ServerCert is the PEM of the data-plane server's certificate.
	ServerCert []byte
	// Lookup resolves a host name for the choice of the address family; nil means no choice is made.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Proxy is what the control plane knows about the proxy from its Dataplane.
type Proxy struct {
	// Cluster is the identifying service, "unknown" if there is none.
	Cluster string
	// AdminPort overrides Config.AdminPort when it is not 0.
	AdminPort uint32
	// BuiltinGateway adds runtime layers and the overload manager.
	BuiltinGateway bool
	// Resource is the Dataplane as JSON, empty when the agent sent none.
	Resource string
}

// Error is a refusal with the status and body of contract agent.md §2.3. An empty Body is part of the contract: agents
// treat a status with and without body differently.
type Error struct {
	Status int
	Body   string
	// Cause is for the log.
	Cause error
}

// Error describes the refusal.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("refuse bootstrap with status %d: %v", e.Status, e.Cause)
	}
	return fmt.Sprintf("refuse bootstrap with status %d: %s", e.Status, e.Body)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrTokenRequired is the refusal of a proxy without token where one is needed.
var ErrTokenRequired = &Error{Status: http.StatusUnprocessableEntity, Body: "Dataplane Token is required. Generate token using 'kumactl generate dataplane-token > /path/file' and provide it via --dataplane-token-file=/path/file argument to Kuma DP"}

// object is one message of the bootstrap.
type object = map[string]any

const typeURL = "type.googleapis.com/"

// Bootstrap makes the YAML for req, which came to host (the Host header without port). A refusal is an *Error.
func Bootstrap(ctx context.Context, cfg Config, req *bootstrap.Request, host string, p Proxy) ([]byte, error) {
	if cfg.XDSHost != "" {
		host = cfg.XDSHost
	}
	if err := checkHost(cfg.ServerCert, host); err != nil {
		return nil, err
	}
	ca, err := trustedCA(cfg.ServerCert, req.CACert)
	if err != nil {
		return nil, err
	}
	adminPort := cfg.AdminPort
	if p.AdminPort != 0 {
		adminPort = p.AdminPort
	}
	g := &generator{cfg: cfg, req: req, host: host, proxy: p, ca: base64.StdEncoding.EncodeToString(ca), adminPort: adminPort}
	g.googleGRPC = cfg.ReloadableTokens && req.DataplaneTokenPath != ""
	out := object{
		"admin":              g.admin(),
		"defaultRegexEngine": object{"name": "envoy.regex_engines.google_re2", "typedConfig": object{"@type": typeURL + "envoy.extensions.regex_engines.v3.GoogleRE2"}},
		"dynamicResources":   g.dynamicResources(),
		"layeredRuntime":     object{"layers": g.runtimeLayers()},
		"node":               g.node(),
		"staticResources":    g.staticResources(ctx),
		"statsConfig":        object{"statsTags": statsTags()},
	}
	if g.isDataplane() && cfg.HDS {
		out["hdsConfig"] = g.apiConfig()
	}
	if p.BuiltinGateway && req.Resources.MaxHeapSizeBytes > 0 {
		out["overloadManager"] = overloadManager(req.Resources.MaxHeapSizeBytes)
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("render bootstrap of %s: %w", g.nodeID(), err)
	}
	return text, nil
}

// checkHost refuses a host that the control plane's certificate does not name: Envoy would only fail later, in the dark.
func checkHost(certPEM []byte, host string) error {
	cert, err := parseCert(certPEM)
	if err != nil {
		return &Error{Status: http.StatusInternalServerError, Cause: fmt.Errorf("server certificate: %w", err)}
	}
	if cert.VerifyHostname(host) == nil {
		return nil
	}
	return &Error{Status: http.StatusBadRequest, Body: fmt.Sprintf("A data plane proxy is trying to connect to the control plane using %q address, "+
		"but the certificate in the control plane has the following SANs %q. "+
		"Either change the --cp-address in kuma-dp to one of those or execute the following steps:\n"+
		"1) Generate a new certificate with the address you are trying to use. It is recommended to use trusted Certificate Authority.\n"+
		"2) Set KUMA_GENERAL_TLS_CERT_FILE and KUMA_GENERAL_TLS_KEY_FILE or the equivalent in Kuma CP config file to the new certificate.\n"+
		"3) Restart the control plane to read the new certificate and start kuma-dp.\n", host, sans(cert))}
}

// trustedCA is what Envoy verifies the control plane with: the agent's authority, else the server's own certificate.
func trustedCA(serverCert []byte, requested string) ([]byte, error) {
	text := serverCert
	if requested != "" {
		text = []byte(requested)
	}
	cert, err := parseCert(text)
	if err != nil {
		return nil, &Error{Status: http.StatusInternalServerError, Cause: fmt.Errorf("CA of the agent: %w", err)}
	}
	if cert.BasicConstraintsValid && !cert.IsCA {
		return nil, &Error{Status: http.StatusBadRequest, Body: "A data plane proxy is trying to verify the control plane using the certificate which is not a " +
			"certificate authority (basic constraint 'CA' is set to 'false').\n" +
			"Provide CA that was used to sign a certificate used in the control plane by using 'kuma-dp run --ca-cert-file=file' or via KUMA_CONTROL_PLANE_CA_CERT_FILE"}
	}
	return text, nil
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it holds no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func port(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
