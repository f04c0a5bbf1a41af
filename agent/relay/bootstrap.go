package relay

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// relayCluster is the static cluster by which Envoy finds the relay. The name it replaces is kept where there is one, so
// that statistics and dashboards keep theirs.
const relayCluster = "ads_cluster"

// Bootstrap is an Envoy bootstrap pointed at the relay, and what the agent needs to know of it.
type Bootstrap struct {
	// YAML is what Envoy is to read; it holds no token.
	YAML []byte
	// ControlPlane is the host:port that the control plane wanted Envoy to connect to; "" when it named none.
	ControlPlane string
	// TLS says whether Envoy was to use TLS for it.
	TLS bool
	// CA is the PEM by which Envoy was to verify it; nil when it named none.
	CA []byte
	// AdminAddress is the host:port of Envoy's admin interface, or AdminPath its unix socket; at most one is set.
	AdminAddress, AdminPath string
	// Cluster is the static cluster by which Envoy reaches the relay.
	Cluster string
	// NodeID and NodeCluster are Envoy's.
	NodeID, NodeCluster string

	root object
}

// RewriteBootstrap points a bootstrap of a control plane (YAML or JSON, contract agent.md §2.8, with envoyGrpc or
// googleGrpc) at the relay on socketPath: ADS and HDS go over one static cluster with a unix address, ADS in its delta
// form, and the token disappears. All else is left as it is.
func RewriteBootstrap(text []byte, socketPath string) (*Bootstrap, error) {
	asJSON, err := yamljson.ToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("parse bootstrap configuration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.UseNumber() // limits such as 4294967295 must not become floating point
	var root object
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("parse bootstrap configuration: %w", err)
	}
	ads := root.get("dynamicResources", "adsConfig")
	if ads == nil {
		return nil, errors.New("rewrite bootstrap configuration: it has no dynamicResources.adsConfig, so Envoy would not follow a control plane: is the address that of a control plane's dataplane server (port 5678)?")
	}
	b := &Bootstrap{root: root, NodeID: root.get("node").text("id"), NodeCluster: root.get("node").text("cluster")}
	b.admin(root)
	cluster := b.controlPlane(root, ads)
	if cluster == "" {
		cluster = relayCluster
	}
	b.Cluster = cluster
	root.replaceCluster(cluster, socketPath)
	service := []any{object{"envoyGrpc": object{"clusterName": cluster}}}
	ads["apiType"], ads["grpcServices"] = "DELTA_GRPC", service
	if hds := root.get("hdsConfig"); hds != nil {
		hds["grpcServices"] = service
	}
	root.speedUpTags()
	out, err := json.Marshal(root)
	if err == nil {
		b.YAML, err = yaml.JSONToYAML(out)
	}
	if err != nil {
		return nil, fmt.Errorf("write bootstrap configuration: %w", err)
	}
	return b, nil
}

func (b *Bootstrap) admin(root object) {
	address := root.get("admin", "address")
	if s := address.get("socketAddress"); s != nil {
		b.AdminAddress = s.hostPort()
	} else {
		b.AdminPath = address.get("pipe").text("path")
	}
}

// controlPlane reads where ADS was to go and returns the name of its cluster, if it was one.
func (b *Bootstrap) controlPlane(root, ads object) (cluster string) {
	service := first(ads["grpcServices"])
	if google := service.get("googleGrpc"); google != nil {
		b.ControlPlane = google.text("targetUri")
		if ssl := google.get("channelCredentials", "sslCredentials"); ssl != nil {
			b.TLS = true
			b.CA = ssl.get("rootCerts").data()
		}
		return ""
	}
	cluster = service.get("envoyGrpc").text("clusterName")
	static := root.get("staticResources")
	c := named(static["clusters"], cluster)
	endpoint := first(first(c.get("loadAssignment")["endpoints"])["lbEndpoints"])
	if s := endpoint.get("endpoint", "address", "socketAddress"); s != nil {
		b.ControlPlane = s.hostPort()
	}
	if tls := c.get("transportSocket", "typedConfig", "commonTlsContext"); tls != nil {
		b.TLS = true
		validation := tls.get("validationContext")
		if validation == nil {
			secret := named(static["secrets"], tls.get("validationContextSdsSecretConfig").text("name"))
			validation = secret.get("validationContext")
		}
		b.CA = validation.get("trustedCa").data()
	}
	return cluster
}

func (o object) replaceCluster(name, socketPath string) {
	static := o.get("staticResources")
	if static == nil {
		static = object{}
		o["staticResources"] = static
	}
	clusters, _ := static["clusters"].([]any)
	kept := clusters[:0]
	for _, c := range clusters {
		if asObject(c).text("name") != name {
			kept = append(kept, c)
		}
	}
	static["clusters"] = append(kept, object{
		"name": name, "type": "STATIC", "connectTimeout": "1s",
		"loadAssignment": object{"clusterName": name, "endpoints": []any{object{"lbEndpoints": []any{
			object{"endpoint": object{"address": object{"pipe": object{"path": socketPath}}}},
		}}}},
		"typedExtensionProtocolOptions": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":              "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicitHttpConfig": object{"http2ProtocolOptions": object{}},
		}},
	})
	// Only the old cluster used it.
	if secrets, ok := static["secrets"].([]any); ok {
		kept := secrets[:0]
		for _, s := range secrets {
			if asObject(s).text("name") != "cp_validation_ctx" {
				kept = append(kept, s)
			}
		}
		static["secrets"] = kept
		if len(kept) == 0 {
			delete(static, "secrets")
		}
	}
}

// object is a JSON object that is read leniently: what is not there, or of another type, is nil or "".
type object map[string]any

func asObject(v any) object {
	switch o := v.(type) {
	case map[string]any:
		return o
	case object:
		return o
	}
	return nil
}

func (o object) get(keys ...string) object {
	for _, k := range keys {
		o = asObject(o[k])
	}
	return o
}

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// data is the content of an inline DataSource.
func (o object) data() []byte {
	if s := o.text("inlineString"); s != "" {
		return []byte(s)
	}
	b, err := base64.StdEncoding.DecodeString(o.text("inlineBytes"))
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

func (o object) hostPort() string {
	port := ""
	switch p := o["portValue"].(type) {
	case json.Number:
		port = p.String()
	case string:
		port = p
	}
	if o.text("address") == "" || port == "" {
		return ""
	}
	return net.JoinHostPort(o.text("address"), port)
}

func first(v any) object {
	if list, ok := v.([]any); ok && len(list) > 0 {
		return asObject(list[0])
	}
	return nil
}

func named(v any, name string) object {
	list, _ := v.([]any)
	for _, item := range list {
		if o := asObject(item); name != "" && o.text("name") == name {
			return o
		}
	}
	return nil
}

// Exposed says why a bootstrap's admin interface would be reachable from other machines; "" when it is not.
func (b *Bootstrap) Exposed() string {
	if b.AdminAddress == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(b.AdminAddress)
	if err != nil {
		return "its address is malformed"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "its port is malformed"
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		return "it listens on " + strings.TrimSpace(host) + ", not on a loopback address"
	}
	return ""
}
