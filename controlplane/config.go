// Package controlplane is the control plane's process: Config, New, Run. It is the only package that knows all parts of
// the control plane, and wires them together.
package controlplane

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/hostname"
	"github.com/kuma-dp/kuma-dp/controlplane/insight"
	"github.com/kuma-dp/kuma-dp/controlplane/service"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// Config is everything that can be configured. Names, defaults and shape are those of Kuma 2.9 (contract controlplane.md
// §1.3 and Appendix A) as far as this control plane has what they configure; a file with other keys is refused rather
// than half obeyed. It is what GET /config shows: it holds no secret.
type Config struct {
	Access          AccessConfig      `json:"access"`
	APIServer       APIServerConfig   `json:"apiServer"`
	BootstrapServer BootstrapConfig   `json:"bootstrapServer"`
	CoreResources   CoreResources     `json:"coreResources"`
	Defaults        DefaultsConfig    `json:"defaults"`
	Diagnostics     DiagnosticsConfig `json:"diagnostics"`
	DNSServer       DNSServerConfig   `json:"dnsServer"`
	DPServer        DPServerConfig    `json:"dpServer"`
	// Environment is "universal".
	Environment string            `json:"environment" envconfig:"kuma_environment"`
	General     GeneralConfig     `json:"general"`
	IPAM        IPAMConfig        `json:"ipam"`
	MeshService MeshServiceConfig `json:"meshService"`
	Metrics     MetricsConfig     `json:"metrics"`
	// Mode is "zone" ("standalone" is its older name).
	Mode      string          `json:"mode" envconfig:"kuma_mode"`
	Multizone MultizoneConfig `json:"multizone"`
	Policies  PoliciesConfig  `json:"policies"`
	Store     StoreConfig     `json:"store"`
	XDSServer XDSServerConfig `json:"xdsServer"`
}

// AccessConfig says who may do what; Type is "static".
type AccessConfig struct {
	Static AccessStatic `json:"static"`
	Type   string       `json:"type" envconfig:"kuma_access_type"`
}

// AccessStatic are the lists of contract controlplane.md §2.5. Each pair of variables is KUMA_ACCESS_STATIC_{LIST}_USERS and
// _GROUPS, comma separated.
type AccessStatic struct {
	AdminResources struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_admin_resources_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_admin_resources_users"`
	} `json:"adminResources"`
	ControlPlaneMetadata struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_control_plane_metadata_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_control_plane_metadata_users"`
	} `json:"controlPlaneMetadata"`
	GenerateDPToken struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_generate_dp_token_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_generate_dp_token_users"`
	} `json:"generateDpToken"`
	GenerateUserToken struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_generate_user_token_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_generate_user_token_users"`
	} `json:"generateUserToken"`
	GenerateZoneToken struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_generate_zone_token_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_generate_zone_token_users"`
	} `json:"generateZoneToken"`
	ViewConfigDump struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_view_config_dump_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_view_config_dump_users"`
	} `json:"viewConfigDump"`
	ViewStats struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_view_stats_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_view_stats_users"`
	} `json:"viewStats"`
	ViewClusters struct {
		Groups []string `json:"groups" envconfig:"kuma_access_static_view_clusters_groups"`
		Users  []string `json:"users" envconfig:"kuma_access_static_view_clusters_users"`
	} `json:"viewClusters"`
}

// APIServerConfig is the REST interface.
type APIServerConfig struct {
	Auth struct {
		// ClientCertsDir holds authorities of administrators' client certificates, *.pem and *.crt.
		ClientCertsDir string `json:"clientCertsDir" envconfig:"kuma_api_server_auth_client_certs_dir"`
	} `json:"auth"`
	Authn struct {
		LocalhostIsAdmin bool `json:"localhostIsAdmin" envconfig:"kuma_api_server_authn_localhost_is_admin"`
		Tokens           struct {
			BootstrapAdminToken bool `json:"bootstrapAdminToken" envconfig:"kuma_api_server_authn_tokens_bootstrap_admin_token"`
			EnableIssuer        bool `json:"enableIssuer" envconfig:"kuma_api_server_authn_tokens_enable_issuer"`
			Validator           struct {
				PublicKeys PublicKeys `json:"publicKeys" envconfig:"kuma_api_server_authn_tokens_validator_public_keys"`
				UseSecrets bool       `json:"useSecrets" envconfig:"kuma_api_server_authn_tokens_validator_use_secrets"`
			} `json:"validator"`
		} `json:"tokens"`
		// Type is "tokens" or "adminClientCerts".
		Type string `json:"type" envconfig:"kuma_api_server_authn_type"`
	} `json:"authn"`
	// CORSAllowedDomains are regular expressions of origins. None are allowed by default, where 2.9 allows all.
	CORSAllowedDomains []string `json:"corsAllowedDomains" envconfig:"kuma_api_server_cors_allowed_domains"`
	// EnvoyAdmin bounds questions to the admin interfaces of Envoys: 2.9 has these times built in.
	EnvoyAdmin struct {
		// ConnectTimeout is for dialling and, again, for the TLS handshake.
		ConnectTimeout Duration `json:"connectTimeout" envconfig:"kuma_api_server_envoy_admin_connect_timeout"`
		// Timeout is for each wait for an answer, or for more of it.
		Timeout Duration `json:"timeout" envconfig:"kuma_api_server_envoy_admin_timeout"`
	} `json:"envoyAdmin"`
	HTTP struct {
		Enabled   bool   `json:"enabled" envconfig:"kuma_api_server_http_enabled"`
		Interface string `json:"interface" envconfig:"kuma_api_server_http_interface"`
		Port      uint32 `json:"port" envconfig:"kuma_api_server_http_port"`
	} `json:"http"`
	HTTPS struct {
		Enabled   bool   `json:"enabled" envconfig:"kuma_api_server_https_enabled"`
		Interface string `json:"interface" envconfig:"kuma_api_server_https_interface"`
		Port      uint32 `json:"port" envconfig:"kuma_api_server_https_port"`
		// RequireClientCert refuses connections without a certificate of the authorities.
		RequireClientCert bool `json:"requireClientCert" envconfig:"kuma_api_server_https_require_client_cert"`
		// TLSCAFile holds authorities of client certificates.
		TLSCAFile   string `json:"tlsCaFile" envconfig:"kuma_api_server_https_tls_ca_file"`
		TLSCertFile string `json:"tlsCertFile" envconfig:"kuma_api_server_https_tls_cert_file"`
		TLSKeyFile  string `json:"tlsKeyFile" envconfig:"kuma_api_server_https_tls_key_file"`
	} `json:"https"`
	// Hardened refuses changes, and views of configuration, stats and clusters, to those without credentials, all of which
	// 2.9 allows. It also refuses labels that only control planes give.
	Hardened bool `json:"hardened" envconfig:"kuma_api_server_hardened"`
	ReadOnly bool `json:"readOnly" envconfig:"kuma_api_server_read_only"`
}

// BootstrapConfig is what agents are given at the start.
type BootstrapConfig struct {
	Params struct {
		AdminAccessLogPath   string   `json:"adminAccessLogPath" envconfig:"kuma_bootstrap_server_params_admin_access_log_path"`
		AdminAddress         string   `json:"adminAddress" envconfig:"kuma_bootstrap_server_params_admin_address"`
		AdminPort            uint32   `json:"adminPort" envconfig:"kuma_bootstrap_server_params_admin_port"`
		CorefileTemplatePath string   `json:"corefileTemplatePath" envconfig:"kuma_bootstrap_server_params_corefile_template_path"`
		XDSConnectTimeout    Duration `json:"xdsConnectTimeout" envconfig:"kuma_bootstrap_server_params_xds_connect_timeout"`
		// XDSHost is empty for the host that the agent called.
		XDSHost string `json:"xdsHost" envconfig:"kuma_bootstrap_server_params_xds_host"`
		// XDSPort is 0 for the port of the data-plane server.
		XDSPort uint32 `json:"xdsPort" envconfig:"kuma_bootstrap_server_params_xds_port"`
	} `json:"params"`
}

// CoreResources is the computing of statuses. In 2.9 its intervals are those of loops; here every status follows what it is
// made of at once.
type CoreResources struct {
	Status struct {
		// MeshServiceInterval is how long a MeshService must have been without proxies before its TLS is ready for that
		// reason. That is one such loop in 2.9.
		MeshServiceInterval Duration `json:"meshServiceInterval" envconfig:"kuma_core_resources_status_mesh_service_interval"`
		// MeshMultiZoneServiceInterval is taken from a 2.9 configuration and changes nothing: nothing in that status waits.
		MeshMultiZoneServiceInterval Duration `json:"meshMultiZoneServiceInterval" envconfig:"kuma_core_resources_status_mesh_multi_zone_service_interval"`
	} `json:"status"`
}

// DefaultsConfig says what is not created at the start.
type DefaultsConfig struct {
	SkipHostnameGenerators bool `json:"SkipHostnameGenerators" envconfig:"kuma_defaults_skip_hostname_generators"`
	SkipMeshCreation       bool `json:"skipMeshCreation" envconfig:"kuma_defaults_skip_mesh_creation"`
}

// DiagnosticsConfig is the server of /ready, /healthy and /metrics.
type DiagnosticsConfig struct {
	// DebugEndpoints adds /debug/pprof.
	DebugEndpoints bool   `json:"debugEndpoints" envconfig:"kuma_diagnostics_debug_endpoints"`
	ServerPort     uint32 `json:"serverPort" envconfig:"kuma_diagnostics_server_port"`
}

// DNSServerConfig is how values of kuma.io/service are named and addressed, in meshes whose mode is not Exclusive.
type DNSServerConfig struct {
	// CIDR is where their virtual addresses come from. It may contain the ranges of IPAMConfig but not begin in one.
	CIDR string `json:"CIDR" envconfig:"kuma_dns_server_cidr"`
	// Domain ends their names.
	Domain string `json:"domain" envconfig:"kuma_dns_server_domain"`
	// ServiceVIPEnabled false leaves them without addresses, and so without names.
	ServiceVIPEnabled bool   `json:"serviceVipEnabled" envconfig:"kuma_dns_server_service_vip_enabled"`
	ServiceVIPPort    uint32 `json:"serviceVipPort" envconfig:"kuma_dns_server_service_vip_port"`
}

// DPServerConfig is the server of agents and Envoys.
type DPServerConfig struct {
	Authn struct {
		DPProxy struct {
			DPToken struct {
				EnableIssuer bool `json:"enableIssuer" envconfig:"kuma_dp_server_authn_dp_proxy_dp_token_enable_issuer"`
				Validator    struct {
					PublicKeys PublicKeys `json:"publicKeys" envconfig:"kuma_dp_server_authn_dp_proxy_dp_token_validator_public_keys"`
					UseSecrets bool       `json:"useSecrets" envconfig:"kuma_dp_server_authn_dp_proxy_dp_token_validator_use_secrets"`
				} `json:"validator"`
			} `json:"dpToken"`
			// Type is "dpToken" or "none".
			Type string `json:"type" envconfig:"kuma_dp_server_authn_dp_proxy_type"`
		} `json:"dpProxy"`
		ZoneProxy struct {
			ZoneToken struct {
				EnableIssuer bool `json:"enableIssuer" envconfig:"kuma_dp_server_authn_zone_proxy_zone_token_enable_issuer"`
				Validator    struct {
					PublicKeys PublicKeys `json:"publicKeys" envconfig:"kuma_dp_server_authn_zone_proxy_zone_token_validator_public_keys"`
					UseSecrets bool       `json:"useSecrets" envconfig:"kuma_dp_server_authn_zone_proxy_zone_token_validator_use_secrets"`
				} `json:"validator"`
			} `json:"zoneToken"`
		} `json:"zoneProxy"`
		EnableReloadableTokens bool `json:"enableReloadableTokens" envconfig:"kuma_dp_server_authn_enable_reloadable_tokens"`
	} `json:"authn"`
	HDS               HDSConfig `json:"hds"`
	Port              uint32    `json:"port" envconfig:"kuma_dp_server_port"`
	ReadHeaderTimeout Duration  `json:"readHeaderTimeout" envconfig:"kuma_dp_server_read_header_timeout"`
	TLSCertFile       string    `json:"tlsCertFile" envconfig:"kuma_dp_server_tls_cert_file"`
	TLSKeyFile        string    `json:"tlsKeyFile" envconfig:"kuma_dp_server_tls_key_file"`
}

// HDSConfig is the probing of workloads by Envoy.
type HDSConfig struct {
	CheckDefaults struct {
		HealthyThreshold   uint32   `json:"healthyThreshold" envconfig:"kuma_dp_server_hds_check_healthy_threshold"`
		Interval           Duration `json:"interval" envconfig:"kuma_dp_server_hds_check_interval"`
		NoTrafficInterval  Duration `json:"noTrafficInterval" envconfig:"kuma_dp_server_hds_check_no_traffic_interval"`
		Timeout            Duration `json:"timeout" envconfig:"kuma_dp_server_hds_check_timeout"`
		UnhealthyThreshold uint32   `json:"unhealthyThreshold" envconfig:"kuma_dp_server_hds_check_unhealthy_threshold"`
	} `json:"checkDefaults"`
	Enabled  bool     `json:"enabled" envconfig:"kuma_dp_server_hds_enabled"`
	Interval Duration `json:"interval" envconfig:"kuma_dp_server_hds_interval"`
}

// GeneralConfig concerns all parts.
type GeneralConfig struct {
	// TLSCertFile and TLSKeyFile are the pair of all servers; empty makes and keeps one in WorkDir.
	TLSCertFile string `json:"tlsCertFile" envconfig:"kuma_general_tls_cert_file"`
	TLSKeyFile  string `json:"tlsKeyFile" envconfig:"kuma_general_tls_key_file"`
	// WorkDir is "$HOME/.kuma" when empty.
	WorkDir string `json:"workDir" envconfig:"kuma_general_work_dir"`
}

// IPAMConfig are the ranges of virtual addresses. Where services have a list of them, it can be a range of IPv4 and one of
// IPv6 with a comma between them.
type IPAMConfig struct {
	// AllocationInterval is taken from a 2.9 configuration and changes nothing: a service has its address and hostnames at
	// once.
	AllocationInterval Duration `json:"allocationInterval" envconfig:"kuma_ipam_allocation_interval"`
	MeshService        struct {
		CIDR string `json:"cidr" envconfig:"kuma_ipam_mesh_service_cidr"`
	} `json:"meshService"`
	MeshExternalService struct {
		CIDR string `json:"cidr" envconfig:"kuma_ipam_mesh_external_service_cidr"`
	} `json:"meshExternalService"`
	MeshMultiZoneService struct {
		CIDR string `json:"cidr" envconfig:"kuma_ipam_mesh_multi_zone_service_cidr"`
	} `json:"meshMultiZoneService"`
}

// MeshServiceConfig is the generation of MeshServices.
type MeshServiceConfig struct {
	// DeletionGracePeriod is how long a generated MeshService outlives its last Dataplane.
	DeletionGracePeriod Duration `json:"deletionGracePeriod" envconfig:"kuma_mesh_service_deletion_grace_period"`
	// GenerationInterval is taken from a 2.9 configuration and changes nothing: services follow their Dataplanes at once.
	GenerationInterval Duration `json:"generationInterval" envconfig:"kuma_mesh_service_generation_interval"`
}

// MetricsConfig is the summing up of meshes.
type MetricsConfig struct {
	Mesh struct {
		// MinResyncInterval is the least time between two sums of what changes all the time.
		MinResyncInterval Duration `json:"minResyncInterval" envconfig:"kuma_metrics_mesh_min_resync_interval"`
	} `json:"mesh"`
}

// MultizoneConfig is this zone. A global control plane cannot be joined yet: its address is refused, not ignored.
type MultizoneConfig struct {
	Zone struct {
		GlobalAddress string `json:"globalAddress,omitempty" envconfig:"kuma_multizone_zone_global_address"`
		Name          string `json:"name" envconfig:"kuma_multizone_zone_name"`
	} `json:"zone"`
}

// PoliciesConfig is how policies are read. The keys are our own: 2.9 computes roles on Kubernetes only.
type PoliciesConfig struct {
	// ComputeRole gives every policy of this zone the label kuma.io/policy-role that follows from its namespace, the label
	// k8s.kuma.io/namespace, and what it says; one that a client wrote is replaced.
	ComputeRole bool `json:"computeRole" envconfig:"kuma_policies_compute_role"`
	// DisableCliques groups the items of `from` as Kuma did before 2.9.13 (contract policies.md §4.5). The variable is that of
	// 2.9, which has no key for it in the file.
	DisableCliques bool `json:"disableCliques" envconfig:"kuma_mesh_traffic_permission_disable_cliques_algorithm"`
}

// StoreConfig is where resources are kept.
type StoreConfig struct {
	Bolt struct {
		// Path is kuma-cp.db in the work directory when empty.
		Path string `json:"path" envconfig:"kuma_store_bolt_path"`
	} `json:"bolt"`
	// Type is "bolt" or "memory".
	Type string `json:"type" envconfig:"kuma_store_type"`
}

// XDSServerConfig is the serving of configuration to Envoys.
type XDSServerConfig struct {
	DataplaneDeregistrationDelay Duration `json:"dataplaneDeregistrationDelay" envconfig:"kuma_xds_dataplane_deregistration_delay"`
	DataplaneStatusFlushInterval Duration `json:"dataplaneStatusFlushInterval" envconfig:"kuma_xds_server_dataplane_status_flush_interval"`
}

// Values of the settings that name a choice.
const (
	StoreBolt   = "bolt"
	StoreMemory = "memory"

	AuthnDPToken = "dpToken"
	AuthnNone    = "none"

	environmentUniversal = "universal"
	modeZone             = "zone"
	modeStandalone       = "standalone"
	accessStatic         = "static"
)

// DefaultConfig returns the defaults. WorkDir and what lies in it are filled in by New.
func DefaultConfig() Config {
	var c Config
	access := api.DefaultAccess()
	c.Access.Type = accessStatic
	s := &c.Access.Static
	s.AdminResources.Users, s.AdminResources.Groups = access.AdminResources.Users, access.AdminResources.Groups
	s.ControlPlaneMetadata.Users, s.ControlPlaneMetadata.Groups = access.ControlPlaneMetadata.Users, access.ControlPlaneMetadata.Groups
	s.GenerateDPToken.Users, s.GenerateDPToken.Groups = access.GenerateDPToken.Users, access.GenerateDPToken.Groups
	s.GenerateUserToken.Users, s.GenerateUserToken.Groups = access.GenerateUserToken.Users, access.GenerateUserToken.Groups
	s.GenerateZoneToken.Users, s.GenerateZoneToken.Groups = access.GenerateZoneToken.Users, access.GenerateZoneToken.Groups
	s.ViewConfigDump.Users, s.ViewConfigDump.Groups = access.ViewConfigDump.Users, access.ViewConfigDump.Groups
	s.ViewStats.Users, s.ViewStats.Groups = access.ViewStats.Users, access.ViewStats.Groups
	s.ViewClusters.Users, s.ViewClusters.Groups = access.ViewClusters.Users, access.ViewClusters.Groups

	a := &c.APIServer
	a.Authn.Type, a.Authn.LocalhostIsAdmin = api.AuthnTokens, true
	a.Authn.Tokens.BootstrapAdminToken, a.Authn.Tokens.EnableIssuer = true, true
	a.Authn.Tokens.Validator.PublicKeys, a.Authn.Tokens.Validator.UseSecrets = PublicKeys{}, true
	a.CORSAllowedDomains = []string{}
	a.EnvoyAdmin.ConnectTimeout, a.EnvoyAdmin.Timeout = Duration(3*time.Second), Duration(5*time.Second)
	a.HTTP.Enabled, a.HTTP.Interface, a.HTTP.Port = true, "0.0.0.0", 5681
	a.HTTPS.Enabled, a.HTTPS.Interface, a.HTTPS.Port = true, "0.0.0.0", 5682

	p := &c.BootstrapServer.Params
	p.AdminAccessLogPath, p.AdminAddress, p.AdminPort = "/dev/null", "127.0.0.1", 9901
	p.XDSConnectTimeout = Duration(time.Second)

	c.Diagnostics.ServerPort = 5680

	c.DNSServer.CIDR, c.DNSServer.Domain = hostname.DefaultLegacyCIDR, xds.DefaultDomain
	c.DNSServer.ServiceVIPEnabled, c.DNSServer.ServiceVIPPort = true, hostname.DefaultLegacyPort

	d := &c.DPServer
	d.Authn.DPProxy.Type, d.Authn.DPProxy.DPToken.EnableIssuer = AuthnDPToken, true
	d.Authn.DPProxy.DPToken.Validator.PublicKeys, d.Authn.DPProxy.DPToken.Validator.UseSecrets = PublicKeys{}, true
	d.Authn.ZoneProxy.ZoneToken.EnableIssuer = true
	d.Authn.ZoneProxy.ZoneToken.Validator.PublicKeys, d.Authn.ZoneProxy.ZoneToken.Validator.UseSecrets = PublicKeys{}, true
	d.Port, d.ReadHeaderTimeout = 5678, Duration(5*time.Second)
	d.HDS.Enabled, d.HDS.Interval = true, Duration(5*time.Second)
	h := &d.HDS.CheckDefaults
	h.Interval, h.NoTrafficInterval, h.Timeout = Duration(time.Second), Duration(time.Second), Duration(2*time.Second)
	h.HealthyThreshold, h.UnhealthyThreshold = 1, 1

	c.Environment, c.Mode = environmentUniversal, modeZone
	c.CoreResources.Status.MeshServiceInterval = Duration(service.DefaultEmptyReady)
	c.CoreResources.Status.MeshMultiZoneServiceInterval = Duration(5 * time.Second)
	c.IPAM.AllocationInterval = Duration(5 * time.Second)
	c.IPAM.MeshService.CIDR = hostname.DefaultCIDR
	c.IPAM.MeshExternalService.CIDR = hostname.DefaultExternalCIDR
	c.IPAM.MeshMultiZoneService.CIDR = hostname.DefaultMultiZoneCIDR
	c.MeshService.DeletionGracePeriod = Duration(service.DefaultGracePeriod)
	c.MeshService.GenerationInterval = Duration(2 * time.Second)
	c.Metrics.Mesh.MinResyncInterval = Duration(insight.DefaultInterval)
	c.Multizone.Zone.Name = "default"
	c.Store.Type = StoreBolt
	c.XDSServer.DataplaneDeregistrationDelay = Duration(10 * time.Second)
	c.XDSServer.DataplaneStatusFlushInterval = Duration(10 * time.Second)
	return c
}

// Load returns the defaults, overridden by the YAML file (none when path is empty), overridden by the environment. A key
// that the file has and Config has not is an error that names it.
func Load(path string) (Config, error) {
	c := DefaultConfig()
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		if err := yamljson.UnmarshalStrict(text, &c); err != nil {
			return c, fmt.Errorf("read configuration %s: %w", path, err)
		}
	}
	if err := envconfig.Process("", &c); err != nil {
		return c, fmt.Errorf("read configuration from the environment: %w", err)
	}
	return c, nil
}

// UnknownVariables returns the names of KUMA_ variables of an environment (NAME=value) that configure nothing here, sorted:
// settings of Kuma that this control plane does not have, or typing errors.
func UnknownVariables(environ []string) []string {
	known := knownVariables()
	var out []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "KUMA_") && !known[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func knownVariables() map[string]bool {
	known := map[string]bool{}
	variables(reflect.TypeFor[Config](), known)
	return known
}

// variables collects the names of a struct's variables.
func variables(t reflect.Type, into map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("envconfig"); name != "" {
			into[strings.ToUpper(name)] = true
		} else if f.Type.Kind() == reflect.Struct {
			variables(f.Type, into)
		}
	}
}

// Duration is a time.Duration that is written "1m0s" in JSON, YAML and the environment.
type Duration time.Duration

// String writes Go's form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's form.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// addressRanges reads ranges that validate has parsed before, with commas between them.
func addressRanges(list string) []netip.Prefix {
	ranges, _ := parseRanges(list)
	return ranges
}

func parseRanges(list string) (out []netip.Prefix, err error) {
	for one := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
