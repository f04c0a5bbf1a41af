package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/agent"
)

func parse(t *testing.T, args []string, env map[string]string) (agent.Config, error) {
	t.Helper()
	cfg := agent.DefaultConfig()
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	cfg.Bind(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cfg, cfg.LoadEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestEnvironmentGoesBeforeFlags(t *testing.T) {
	cfg, err := parse(t, []string{"--name=flag", "--mesh=flag", "--drain-time=1s", "-v", "a=1,b=2", "--dns-enable-logging", "--work-dir=/w"},
		map[string]string{"KUMA_DATAPLANE_NAME": "env", "KUMA_DATAPLANE_MESH": "", "KUMA_READINESS_PORT": "1234", "KUMA_DNS_PROXY_PORT": "53", "KUMA_DNS_ENABLED": "false"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"name":"env"`, `"mesh":"flag"`, `"drainTime":"1s"`, `"readinessPort":1234`, `"proxyPort":53`, `"enabled":false`,
		`"resourceVars":{"a":"1","b":"2"}`, `"configDir":"/w"`, `"socketDir":"/w"`, `"maxDuration":"5m0s"`, `"applicationProbeProxyServer":{"port":0}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
	_, err = parse(t, nil, map[string]string{"KUMA_READINESS_PORT": "many", "KUMA_DATAPLANE_DRAIN_TIME": "3"})
	if err == nil || !strings.Contains(err.Error(), "KUMA_READINESS_PORT") || !strings.Contains(err.Error(), "KUMA_DATAPLANE_DRAIN_TIME") {
		t.Errorf("error %v, want both variables named", err)
	}
}

func TestNameInAPod(t *testing.T) {
	pod := map[string]string{"POD_NAME": "app-1", "POD_NAMESPACE": "demo"}
	for _, tc := range []struct{ name, given, want string }{
		{"not given", "", "app-1.demo"},
		{"not expanded", "$(POD_NAME).$(POD_NAMESPACE)", "app-1.demo"},
		{"given", "mine", "mine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := parse(t, []string{"--name=" + tc.given}, pod)
			if err != nil || cfg.Dataplane.Name != tc.want {
				t.Errorf("name %q, %v; want %q", cfg.Dataplane.Name, err, tc.want)
			}
		})
	}
}

const resourceFile = `type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ net.address }}
  inbound: [{port: {{ net.port }}, tags: {kuma.io/service: demo}}]
`

const twoServices = `{type: Dataplane, mesh: m, name: x, networking: {inbound: [{tags: {kuma.io/service: one}}, {tags: {kuma.io/service: two}}]}}`

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("dp.yaml", resourceFile)
	vars := "name=demo,net.address=127.0.0.1,net.port=80"
	jwt := func(claims string) string {
		return write("t"+strings.NewReplacer(`"`, "", "/", "", ":", "").Replace(claims), token(claims))
	}
	for _, tc := range []struct {
		name string
		args []string
		want string // "" = accepted
	}{
		{"nothing said", []string{"--dns-enabled=false"}, "configuration validation failed: .Dataplane is not valid: .Mesh must be non-empty; .Name must be non-empty"},
		{"unknown proxy type", []string{"--proxy-type=gateway", "--name=x"}, ".ProxyType is not valid: gateway is not a valid proxy type"},
		{"bad url", []string{"--cp-address=localhost:5678", "--name=x", "--mesh=m"}, ".ControlPlane is not valid: .Url is not valid"},
		{"two problems", []string{"--name=x", "--mesh=m", "--drain-time=0s", "--binary-path="}, ".DrainTime must be positive; .DataplaneRuntime is not valid: .BinaryPath must be non-empty"},
		{"dns port", []string{"--name=x", "--mesh=m", "--dns-coredns-port=65400"}, ".CoreDNSPort has to be in [0, 65353] range"},
		{"name server", []string{"--name=x", "--mesh=m", "--dns-upstreams=10.0.0.1,nowhere"}, `.DNS is not valid: .Upstreams is not valid: "nowhere" is neither an address nor address:port`},
		{"name server without port", []string{"--name=x", "--mesh=m", "--dns-upstreams=10.0.0.1:0"}, "is neither an address nor address:port"},
		{"name servers", []string{"--name=x", "--mesh=m", "--dns-upstreams=10.0.0.1,10.0.0.2:5353,fd00::1,[fd00::1]:53"}, ""},
		{"networks", []string{"--name=x", "--mesh=m", "--dns-networks=172.17.0.0/16,docker+:fd00:17::/64,br-1:10.0.0.0/8"}, ""},
		{"network that is none", []string{"--name=x", "--mesh=m", "--dns-networks=docker0"}, `"docker0" is neither a network, such as 172.17.0.0/16, nor interface:network`},
		{"workload API", []string{"--name=x", "--mesh=m", "--workload-api-socket=unix:///run/app/a.sock", "--workload-api-uids=0,1000"}, ""},
		{"workload API of a relative path", []string{"--name=x", "--mesh=m", "--workload-api-socket=a.sock"}, "a.sock is neither unix:///path nor an absolute path"},
		{"users without socket", []string{"--name=x", "--mesh=m", "--workload-api-uids=1000"}, "--workload-api-uids needs --workload-api-socket"},
		{"user that is none", []string{"--name=x", "--mesh=m", "--workload-api-socket=/a", "--workload-api-uids=4294967295"}, "4294967295 is no user"},
		{"workload API of a zone proxy", []string{"--name=x", "--proxy-type=ingress", "--workload-api-socket=/a"}, "a zone proxy has no application"},
		{"identity of nowhere", []string{"--name=x", "--mesh=m", "--identity-source=vault"}, ".Identity is not valid: .Source is not valid: vault is none of control-plane, files and spire"},
		{"identity files", []string{"--name=x", "--mesh=m", "--identity-source=files", "--identity-cert-file=/c", "--identity-key-file=/k"}, ""},
		{"identity without key", []string{"--name=x", "--mesh=m", "--identity-source=files", "--identity-cert-file=/c"}, "source files needs --identity-cert-file and --identity-key-file"},
		{"identity files without source", []string{"--name=x", "--mesh=m", "--identity-ca-file=/c"}, "identity files need --identity-source=files"},
		{"identity socket", []string{"--name=x", "--mesh=m", "--identity-source=spire", "--identity-socket=unix:///run/spire/agent.sock"}, ""},
		{"identity socket as a path", []string{"--name=x", "--mesh=m", "--identity-source=spire", "--identity-socket=/run/spire/agent.sock"}, ""},
		{"identity without socket", []string{"--name=x", "--mesh=m", "--identity-source=spire"}, "source spire needs --identity-socket"},
		{"identity socket without source", []string{"--name=x", "--mesh=m", "--identity-socket=/s"}, "--identity-socket needs --identity-source=spire"},
		{"identity socket on the network", []string{"--name=x", "--mesh=m", "--identity-source=spire", "--identity-socket=tcp://127.0.0.1:1"}, "is neither unix:///path nor an absolute path"},
		{"key type", []string{"--name=x", "--mesh=m", "--identity-key-type=rsa-2048"}, ""},
		{"unknown key type", []string{"--name=x", "--mesh=m", "--identity-key-type=ed25519"}, "ed25519 is neither ecdsa-p256 nor rsa-2048"},
		{"key type of files", []string{"--name=x", "--mesh=m", "--identity-source=files", "--identity-cert-file=/c", "--identity-key-file=/k", "--identity-key-type=rsa-2048"}, "has no effect on source files"},
		{"identity of a zone proxy", []string{"--name=x", "--proxy-type=egress", "--identity-source=spire", "--identity-socket=/s"}, "the identities of a zone proxy come from the control plane"},
		{"cache", []string{"--name=x", "--mesh=m", "--dns-cache-max-ttl=-1s"}, ".CacheMaxTTL and .ServeStale must not be negative"},
		{"file", []string{"-d", file, "-v", vars}, ""},
		{"standard input", []string{"-d", "-", "-v", vars}, ""},
		{"yaml 1.2 words", []string{"--dataplane", "{type: Dataplane, name: n, mesh: y}"}, ""},
		{"no such file", []string{"-d", dir + "/none"}, "check --dataplane-file"},
		{"file and name", []string{"-d", file, "-v", vars, "--name=x"}, "--name and --mesh cannot be specified"},
		{"kind does not fit", []string{"--proxy-type=ingress", "-d", file, "-v", vars}, `invalid proxy resource type "Dataplane", expected ZoneIngress`},
		{"yaml in a variable", []string{"-d", file, "-v", vars, "-v", "name=demo\nmesh: other"}, "control character"},
		{"variable with value and parts", []string{"-d", file, "-v", vars, "-v", "net=x"}, "both a value and parts"},
		{"not yaml", []string{"--dataplane", "a: [", "-v", vars}, "parse dataplane resource"},
		{"same key twice", []string{"--dataplane", "type: Dataplane\nmesh: a\nmesh: b\nname: c"}, "parse dataplane resource"},
		{"token of this proxy", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"Name":"x","Mesh":"m","exp":99999999999}`)}, ""},
		{"token of a service account", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"sub":"a"}`)}, ""},
		{"token of another proxy", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"Name":"y","Mesh":"m"}`)}, `dataplane token is for name "y", this proxy has name "x"`},
		{"token of another mesh", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"Mesh":"n"}`)}, `dataplane token is for mesh "n", this proxy has mesh "m"`},
		{"expired token", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"exp":1}`)}, ""},
		{"empty token", []string{"--name=x", "--mesh=m", "--dataplane-token-file", write("empty", " \n")}, "is empty"},
		{"token with a line break", []string{"--name=x", "--mesh=m", "--dataplane-token-file", write("two", "a\nb")}, "shouldn't contain line breaks"},
		{"token that is none", []string{"--name=x", "--mesh=m", "--dataplane-token=secretive"}, "not valid JWT token"},
		{"token is a directory", []string{"--name=x", "--mesh=m", "--dataplane-token-file", dir}, "is a directory"},
		{"token of these tags", []string{"-d", file, "-v", vars, "--dataplane-token-file", jwt(`{"Name":"demo","Tags":{"kuma.io/service":["a","demo"]}}`)}, ""},
		{
			"token of another tag value",
			[]string{"-d", file, "-v", vars, "--dataplane-token-file", jwt(`{"Tags":{"kuma.io/service":["a","b"]}}`)},
			`dataplane contains tag "kuma.io/service" with value "demo" which is not allowed with this token. Allowed values in token are "a, b": change`,
		},
		{
			"token of another tag",
			[]string{"-d", file, "-v", vars, "--dataplane-token-file", jwt(`{"Tags":{"version":["1"]}}`)},
			`dataplane has no tag "version" required by the token: change`,
		},
		{
			"token of one of two services",
			[]string{"--dataplane", twoServices, "--dataplane-token-file", jwt(`{"Tags":{"kuma.io/service":["one"]}}`)},
			`dataplane contains tag "kuma.io/service" with value "two"`,
		},
		{"token of a gateway", []string{
			"--dataplane", "type: Dataplane\nmesh: m\nname: g\nnetworking: {gateway: {tags: {kuma.io/service: edge}}}",
			"--dataplane-token-file", jwt(`{"Tags":{"kuma.io/service":["edge"]}}`),
		}, ""},
		{"token of tags that only the control plane knows", []string{"--name=x", "--mesh=m", "--dataplane-token-file", jwt(`{"Tags":{"team":["a"]}}`)}, ""},
		{"no ca file", []string{"--name=x", "--mesh=m", "--ca-cert-file", dir + "/none"}, "could not read certificate file " + dir + "/none"},
		{"ca and skip", []string{"--name=x", "--mesh=m", "--ca-cert-file", file, "--skip-verify"}, "contradict each other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := parse(t, tc.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = agent.New(cfg, strings.NewReader(resourceFile))
			if tc.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, agent.ErrConfig) {
				t.Errorf("error %v, want ErrConfig with %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
			if err != nil && strings.Contains(err.Error(), "secretive") {
				t.Error("the error holds the token")
			}
		})
	}
}

// TestTokenAsAValueWarns: who gives a token as a value is told that others may see it, in a log that does not hold it.
func TestTokenAsAValueWarns(t *testing.T) {
	var log bytes.Buffer
	value := token(`{"Name":"x","Mesh":"m"}`)
	for _, args := range [][]string{{"--dataplane-token", value}, {}} {
		cfg, err := parse(t, append([]string{"--name=x", "--mesh=m"}, args...), nil)
		if err != nil {
			t.Fatal(err)
		}
		log.Reset()
		cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if _, err := agent.New(cfg, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Contains(log.String(), "which other users of the host may see"), len(args) > 0; got != want || strings.Contains(log.String(), value) {
			t.Errorf("with %q the log is\n%s", args, log.String())
		}
	}
}
