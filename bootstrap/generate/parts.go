package generate

import (
	"context"
	"crypto/x509"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/kuma-dp/kuma-dp/bootstrap"
)

// generator holds what the parts of one bootstrap share.
type generator struct {
	cfg        Config
	req        *bootstrap.Request
	host       string
	proxy      Proxy
	ca         string // base64 of PEM
	adminPort  uint32
	googleGRPC bool // Envoy reads the token itself, which only its Google gRPC client can
}

func (g *generator) isDataplane() bool {
	return g.req.ProxyType == "" || g.req.ProxyType == bootstrap.TypeDataplane
}

func (g *generator) nodeID() string {
	if !g.isDataplane() {
		return "." + g.req.Name
	}
	return g.req.Mesh + "." + g.req.Name
}

func (g *generator) admin() object {
	return object{
		"accessLog": []object{{
			"name":        "envoy.access_loggers.file",
			"typedConfig": object{"@type": typeURL + "envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": g.cfg.AdminAccessLogPath},
		}},
		"address": socketAddress(g.cfg.AdminAddress, g.adminPort),
	}
}

func socketAddress(host string, port uint32) object {
	return object{"socketAddress": object{"address": host, "portValue": port}}
}

func (g *generator) dynamicResources() object {
	source := object{"ads": object{}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"}
	return object{"adsConfig": g.apiConfig(), "cdsConfig": source, "ldsConfig": source}
}

// apiConfig is the same for ADS and HDS.
func (g *generator) apiConfig() object {
	service := object{"envoyGrpc": object{"clusterName": "ads_cluster"}}
	if g.googleGRPC {
		service = object{"googleGrpc": g.googleService()}
	} else if g.req.DataplaneToken != "" {
		service["initialMetadata"] = []object{{"key": "authorization", "value": g.req.DataplaneToken}}
	}
	return object{"apiType": "GRPC", "grpcServices": []object{service}, "setNodeOnFirstMessageOnly": true, "transportApiVersion": "V3"}
}

// googleService makes Envoy read the token from its file again and again.
func (g *generator) googleService() object {
	target := g.host + ":" + port(g.cfg.XDSPort)
	if addr, err := netip.ParseAddr(g.host); err == nil && addr.Is6() {
		target = "[" + g.host + "]:" + port(g.cfg.XDSPort)
	}
	return object{
		"targetUri":              target,
		"statPrefix":             "ads",
		"credentialsFactoryName": "envoy.grpc_credentials.file_based_metadata",
		"callCredentials": []object{{"fromPlugin": object{
			"name": "envoy.grpc_credentials.file_based_metadata",
			"typedConfig": object{
				"@type":      typeURL + "envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
				"secretData": object{"filename": g.req.DataplaneTokenPath},
			},
		}}},
		"channelCredentials": object{"sslCredentials": object{"rootCerts": object{"inlineBytes": g.ca}}},
		"channelArgs": object{"args": object{
			"grpc.http2.max_pings_without_data": object{"intValue": "0"},
			"grpc.keepalive_time_ms":            object{"intValue": "10000"},
			"grpc.keepalive_timeout_ms":         object{"intValue": "30000"},
		}},
	}
}

func (g *generator) runtimeLayers() []object {
	layers := []object{{"name": "kuma", "staticLayer": object{
		"re2.max_program_size.error_level": uint32(math.MaxUint32),
		"re2.max_program_size.warn_level":  1000,
	}}}
	if !g.proxy.BuiltinGateway {
		return layers
	}
	limit := g.cfg.GatewayMaxConnections
	if limit == 0 {
		limit = 50000
	}
	return append(layers,
		object{"name": "gateway", "staticLayer": object{"overload.global_downstream_max_connections": limit}},
		object{"name": "gateway.listeners", "rtdsLayer": object{
			"name":       "gateway.listeners",
			"rtdsConfig": object{"ads": object{}, "resourceApiVersion": "V3"},
		}})
}

func (g *generator) node() object {
	r := g.req
	metadata := object{
		"dataplane.admin.address": g.cfg.AdminAddress,
		"dataplane.admin.port":    port(g.adminPort),
		"dataplane.proxyType":     bootstrap.TypeDataplane,
		"features":                append([]string{}, r.Features...),
		"ipv6Enabled":             r.IPv6Enabled,
		"metricsCertPath":         r.MetricsResources.CertPath,
		"metricsKeyPath":          r.MetricsResources.KeyPath,
		"systemCaPath":            r.SystemCAPath,
		"version":                 version(r.Version),
		"workdir":                 r.Workdir,
	}
	cluster := g.proxy.Cluster
	if !g.isDataplane() {
		metadata["dataplane.proxyType"], cluster = r.ProxyType, r.ProxyType
	}
	if r.AppProbeProxyEnabled {
		metadata["dataplane.appProbeProxy.enabled"] = "true"
	}
	if r.DNSPort != 0 {
		metadata["dataplane.dns.port"] = port(r.DNSPort)
	}
	if r.ReadinessPort != 0 {
		metadata["dataplane.readinessReporter.port"] = port(r.ReadinessPort)
	}
	if g.proxy.Resource != "" {
		metadata["dataplane.resource"] = g.proxy.Resource
	}
	if len(r.DynamicMetadata) > 0 {
		metadata["dynamicMetadata"] = maps.Clone(r.DynamicMetadata)
	}
	return object{"cluster": cluster, "id": g.nodeID(), "metadata": metadata}
}

// version drops default values, as the protobuf message that it is read as would.
func version(v bootstrap.Version) object {
	dp, envoy := object{}, object{}
	set := func(o object, key, value string) {
		if value != "" {
			o[key] = value
		}
	}
	set(dp, "version", v.KumaDP.Version)
	set(dp, "gitTag", v.KumaDP.GitTag)
	set(dp, "gitCommit", v.KumaDP.GitCommit)
	set(dp, "buildDate", v.KumaDP.BuildDate)
	set(envoy, "version", v.Envoy.Version)
	set(envoy, "build", v.Envoy.Build)
	if v.Envoy.KumaDPCompatible {
		envoy["kumaDpCompatible"] = true
	}
	return object{"kumaDp": dp, "envoy": envoy}
}

func (g *generator) staticResources(ctx context.Context) object {
	logSink := g.http2Cluster("access_log_sink", "STATIC", object{"pipe": object{"path": g.accessLogPipe()}}, time.Second)
	clusters := []object{logSink}
	if !g.googleGRPC {
		clusters = append(clusters, g.adsCluster(ctx))
	}
	return object{"clusters": clusters, "secrets": []object{{
		"name": "cp_validation_ctx",
		"validationContext": object{
			"matchTypedSubjectAltNames": []object{
				{"matcher": object{"exact": g.host}, "sanType": "DNS"},
				{"matcher": object{"exact": g.host}, "sanType": "IP_ADDRESS"},
			},
			"trustedCa": object{"inlineBytes": g.ca},
		},
	}}}
}

// accessLogPipe is the name that the agent computes too (contract agent.md §4.1).
func (g *generator) accessLogPipe() string {
	mesh := g.req.Mesh
	if !g.isDataplane() {
		mesh = ""
	}
	return bootstrap.SocketPath(g.req.Workdir, "kuma-al-"+g.req.Name+"-"+mesh)
}

func (g *generator) adsCluster(ctx context.Context) object {
	kind := "STATIC"
	_, err := netip.ParseAddr(g.host)
	if err != nil {
		kind = "STRICT_DNS"
	}
	c := g.http2Cluster("ads_cluster", kind, socketAddress(g.host, g.cfg.XDSPort), g.cfg.ConnectTimeout)
	if err != nil && g.host != "localhost" && g.ipv4Only(ctx) {
		c["dnsLookupFamily"] = "V4_ONLY"
	}
	c["transportSocket"] = object{
		"name": "envoy.transport_sockets.tls",
		"typedConfig": object{
			"@type": typeURL + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"commonTlsContext": object{
				"tlsParams":                        object{"tlsMinimumProtocolVersion": "TLSv1_2"},
				"validationContextSdsSecretConfig": object{"name": "cp_validation_ctx"},
			},
			"sni": g.host,
		},
	}
	return c
}

func (g *generator) ipv4Only(ctx context.Context) bool {
	if g.cfg.Lookup == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addrs, err := g.cfg.Lookup(ctx, g.host)
	return err == nil && len(addrs) > 0 && !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.Unmap().Is4() })
}

func (g *generator) http2Cluster(name, kind string, address object, connect time.Duration) object {
	return object{
		"name":           name,
		"type":           kind,
		"connectTimeout": strconv.FormatFloat(connect.Seconds(), 'f', -1, 64) + "s",
		"loadAssignment": object{
			"clusterName": name,
			"endpoints":   []object{{"lbEndpoints": []object{{"endpoint": object{"address": address}}}}},
		},
		"typedExtensionProtocolOptions": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":              typeURL + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicitHttpConfig": object{"http2ProtocolOptions": object{}},
		}},
		"upstreamConnectionOptions": object{"tcpKeepalive": object{"keepaliveInterval": 10, "keepaliveProbes": 3, "keepaliveTime": 10}},
	}
}

func overloadManager(maxHeap uint64) object {
	const monitor = "envoy.resource_monitors.fixed_heap"
	action := func(name string, at float64) object {
		return object{"name": name, "triggers": []object{{"name": monitor, "threshold": object{"value": at}}}}
	}
	return object{
		"refreshInterval": "0.250s",
		"resourceMonitors": []object{{"name": monitor, "typedConfig": object{
			"@type":            typeURL + "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
			"maxHeapSizeBytes": strconv.FormatUint(maxHeap, 10),
		}}},
		"actions": []object{
			action("envoy.overload_actions.shrink_heap", 0.95),
			action("envoy.overload_actions.stop_accepting_requests", 0.98),
		},
	}
}

func statsTags() []object {
	var out []object
	for _, t := range [][2]string{
		{"name", `^grpc\.((.+)\.)`},
		{"status", `^grpc.*streams_closed(_([0-9]+))`},
		{"kafka_name", `^kafka(\.(\S*[0-9]))\.`},
		{"kafka_type", `^kafka\..*\.(.*?(?=_duration|$))`},
		{"worker", `(worker_([0-9]+)\.)`},
		{"listener", `((.+?)\.)rbac\.`},
	} {
		out = append(out, object{"tagName": t[0], "regex": t[1]})
	}
	return out
}

// sans lists the names of a certificate in the order of the alphabet.
func sans(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	slices.Sort(out)
	return out
}
